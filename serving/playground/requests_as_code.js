/** The steered request of a setting as code to paste: curl, or Python with OpenAI's client. */

import { requestBody, requestPath, steerings } from "./generation.js";

const shellQuoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** JSON of texts, numbers and objects is Python too. */
const python = (value) => JSON.stringify(value);

export function asCurl(model, setting, history, hasKey) {
  const body = { ...requestBody(model, setting, history), steering: steerings(setting).steered };
  const key = hasKey ? ` \\\n  -H "Authorization: Bearer $TRUSTTRACE_API_KEY"` : "";
  const address = new URL(`../v1/${requestPath(setting)}`, import.meta.url);
  return `curl ${address} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${shellQuoted(JSON.stringify(body))}`;
}

export function asPython(model, setting, history, hasKey) {
  const chat = setting.format === "chat";
  const options = Object.entries(requestBody(model, setting, history)).map(([name, value]) => `    ${name}=${python(value)},`);
  const { steered } = steerings(setting);
  return [
    ...(hasKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${python(new URL("../v1", import.meta.url).href)}, api_key=${hasKey ? 'os.environ["TRUSTTRACE_API_KEY"]' : '"none"'})`,
    `answer = client.${chat ? "chat.completions" : "completions"}.create(`,
    ...options,
    `    extra_body={"steering": ${python(steered)}},`,
    ")",
    `print(answer.choices[0].${chat ? "message.content" : "text"})`,
  ].join("\n");
}
