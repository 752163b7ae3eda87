// What is stored, and what is not and why.

import { ask } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatAge, formatBytes, formatCount, formatMoment, plural } from "./format.js";
import { makeTable } from "./table.js";

/** @param {import("./page.js").View} view */
export async function showStatus({ main, signal }) {
  const status = await ask("status", { limit: 200 }, signal);
  const count = (/** @type {string} */ title, /** @type {string} */ name, isBad = false) => ({
    title, isNumber: true, key: (/** @type {any} */ row) => row[name],
    cell: (/** @type {any} */ row) => make("span", { class: isBad && row[name] ? "bad" : null, text: formatCount(row[name]) }),
  });
  const facts = [
    ["created", status.spans_created], ["stored", status.spans_stored], ["lost", status.spans_lost], ["on their way", status.spans_waiting],
    ["delivered elsewhere", status.spans_elsewhere], ["expired", status.spans_expired], ["thinned", status.spans_thinned], ["not in profiles yet", status.spans_unsettled], ["unfinished", status.unfinished],
  ];
  main.className = "list";
  fill(main,
    make("h2", { text: "Spans" }),
    make("dl", { class: "figures" }, ...facts.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { class: name === "lost" && value ? "bad" : null, text: formatCount(value) }))),
      make("div", {}, make("dt", { text: "file and log" }), make("dd", { text: `${formatBytes(status.database_bytes)} and ${formatBytes(status.log_bytes)}` }))),
    status.losses.length ? make("h2", { text: plural(status.loss_count, "loss") }) : null,
    status.losses.length ? makeTable("losses", status.losses, [
      { title: "Process", cell: (row) => `${row.service} on ${row.host}, ${row.pid}` },
      { title: "Reason", cell: (row) => row.reason },
      count("Spans", "span_count", true),
      { title: "When", cell: (row) => `${formatMoment(row.first_ns)} to ${formatMoment(row.last_ns).slice(11)}` },
    ]) : null,
    status.refusals.length ? make("h2", { text: "Refused or corrected" }) : null,
    status.refusals.length ? makeTable("refusals", status.refusals, [
      { title: "Reason", cell: (row) => row.reason }, count("Count", "count"),
      { title: "Last", cell: (row) => formatAge(row.last_ns) }, { title: "Detail", cell: (row) => row.detail },
    ]) : null,
    make("h2", { text: plural(status.publisher_count, "publisher") }),
    makeTable("publishers", status.publishers, [
      { title: "Service", key: (row) => row.service, cell: (row) => row.service },
      { title: "Process", cell: (row) => `${row.host} ${row.pid}` },
      { title: "State", key: (row) => row.state, cell: (row) => make("span", { class: row.state === "crashed" ? "bad" : null, text: row.state }) },
      count("Created", "spans_created"), count("Stored", "spans_stored"), count("Lost", "spans_lost", true), count("On their way", "spans_waiting"),
      { title: "Last seen", key: (row) => row.last_seen_ns, cell: (row) => formatAge(row.last_seen_ns) },
    ]),
    status.destinations.length ? make("h2", { text: "Sent on" }) : null,
    status.destinations.length ? makeTable("destinations", status.destinations, [
      { title: "Address", cell: (row) => row.url }, { title: "State", cell: (row) => row.state },
      count("Sent", "spans_sent"), count("Refused", "spans_refused", true), count("Waiting", "spans_waiting"), { title: "Error", cell: (row) => row.error ?? "" },
    ]) : null,
  );
}
