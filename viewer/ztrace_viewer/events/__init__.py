"""Events of a running collector for commands and webhooks: new errors, and methods that became slower."""

#: Variables with the command and the URL, which may have a secret in it and is not passed to the command.
COMMAND_VARIABLE, WEBHOOK_VARIABLE = "ZTRACE_ON_EVENT", "ZTRACE_WEBHOOK"
