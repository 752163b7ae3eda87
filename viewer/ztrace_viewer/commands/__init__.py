"""Commands, one module per subject; `ztrace_viewer.cli.COMMANDS` lists them."""
