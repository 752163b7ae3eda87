// Questions to the server. One idea: an answer that is an error is thrown with the server's own line.

export class AskError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Ask for a document.
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} query what is empty is left out
 * @param {AbortSignal | undefined} signal
 * @param {string} method
 * @returns {Promise<any>}
 */
export async function ask(path, query = {}, signal = undefined, method = "GET") {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  const text = new URLSearchParams(kept.map(([name, value]) => [name, value === true ? "1" : String(value)])).toString();
  let response;
  try {
    response = await fetch(`/data/${path}${text ? "?" + text : ""}`, { signal, method });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new AskError(0, "ztrace does not answer; is it still running?");
  }
  if (response.ok) return response.json();
  let message = `the server answered with status ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch { /* The status says enough. */ }
  if (response.status === 401) message = "The token is missing or old: open the address that ztrace printed.";
  throw new AskError(response.status, message);
}

/** Parameters of the address. */
export const query = () => new URLSearchParams(location.search);

/** Change parameters of the address, without a new entry in the history. @param {Record<string, string | null>} changes */
export function keep(changes) {
  const kept = query();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") kept.delete(name);
    else kept.set(name, value);
  }
  history.replaceState(null, "", location.pathname + (kept.size ? `?${kept}` : ""));
}

/** Return an address with the stretch of time of the present one. @param {string} path @param {Record<string, string>} more */
export function link(path, more = {}) {
  const kept = new URLSearchParams(more);
  for (const name of ["since", "until"]) {
    const value = query().get(name);
    if (value && !kept.has(name)) kept.set(name, value);
  }
  return path + (kept.size ? `?${kept}` : "");
}
