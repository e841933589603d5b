/** The service's HTTP interface, seen from the page. */

const ROOT = new URL("../v1/", import.meta.url);

/** An answer that is no success: the service's error envelope, or what stands for it when there is none. */
export class ApiError extends Error {
  constructor({ status = 0, message, code = "", param = "", retryAfter = null }) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }

  static fromEnvelope({ message, code, type, param }, status = 0, retryAfter = null) {
    return new ApiError({ status, message, code: code || type, param, retryAfter });
  }
}

async function failure(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    const { error } = await response.json();
    return ApiError.fromEnvelope(error, response.status, retryAfter);
  } catch {
    const message = `The service answered ${response.status} ${response.statusText}.`;
    return new ApiError({ status: response.status, message, retryAfter });
  }
}

/** Call a route under /v1/: POST when there is a body, else GET. Throws `ApiError`; `AbortError` when stopped. */
export async function call(path, { key = "", body, signal } = {}) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  const method = body ? "POST" : "GET";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ code: "unreachable", message: "The service does not answer. Is it still running?" });
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** The `data:` lines of a stream of server-sent events, parsed, until `[DONE]`. Throws `ApiError` for an error in it. */
export async function* events(response) {
  for await (const line of lines(response.body)) {
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw ApiError.fromEnvelope(event.error);
    yield event;
  }
  throw new ApiError({ code: "incomplete", message: "The stream ended before the answer did." });
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n");
    rest = found.pop();
    yield* found;
  }
}
