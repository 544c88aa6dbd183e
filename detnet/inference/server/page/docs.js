"use strict";

const page = document.getElementById("api");

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function table(title, rows, parent) {
  if (!rows.length) return;
  element("h3", title, parent);
  const body = element("tbody", undefined, element("table", undefined, parent));
  for (const [name, text] of rows) {
    const row = element("tr", undefined, body);
    element("code", name, element("td", undefined, row));
    element("td", text, row);
  }
}

function named(schema) {
  return schema && schema.$ref ? schema.$ref.split("/").pop() : null;
}

function kind(schema) {
  const own = named(schema);
  if (own) return own;
  if (schema.anyOf) return `${schema.anyOf.filter((each) => each.type !== "null").map(kind).join(" or ")}, or missing`;
  if (schema.prefixItems) return `list of ${schema.prefixItems.length} ${kind(schema.prefixItems[0])}s`;
  if (schema.type === "array" && schema.items) return `list of ${kind(schema.items)}`;
  return schema.format === "binary" ? "file" : schema.type || "";
}

function describe(schema) {
  const range = [];
  if (schema.minimum !== undefined) range.push(`${schema.minimum} to ${schema.maximum}`);
  if (schema.default !== undefined && schema.default !== null) range.push(`default ${schema.default}`);
  const more = range.length ? ` (${range.join(", ")})` : "";
  return `${kind(schema)}${more}${schema.description ? `: ${schema.description}` : ""}`;
}

function operation(path, method, told) {
  const card = element("section", undefined, page);
  card.className = "card";
  const title = element("h2", undefined, card);
  element("span", method.toUpperCase(), title).className = `method ${method}`;
  element("code", path, title);
  element("p", told.summary, card);
  if (told.description) element("p", told.description, card).className = "soft";
  table("In the address", (told.parameters || []).map((each) => [each.name, describe({ ...each.schema, description: each.schema.description })]), card);
  for (const [type, content] of Object.entries(told.requestBody ? told.requestBody.content : {})) {
    const fields = Object.entries(content.schema.properties);
    table(`In the body, ${type}`, fields.map(([name, schema]) => [name, `${kind(schema)}: ${schema.items.description}`]), card);
  }
  table("Answers", Object.entries(told.responses).map(([status, reply]) => {
    const content = Object.values(reply.content || {})[0];
    const own = content && named(content.schema);
    if (!own && status === "200") return [status, "text"];
    return [status, own ? `${own}${reply.description === "Successful Response" ? "" : `: ${reply.description}`}` : reply.description];
  }), card);
}

async function tell() {
  const document_ = await (await fetch("/openapi.json")).json();
  document.getElementById("about").textContent = document_.info.description;
  document.getElementById("example").textContent =
    `curl -F image=@photo.jpg '${location.origin}/predict?score_threshold=0.5'`;
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, told] of Object.entries(methods)) operation(path, method, told);
  }
  element("h1", "What answers are made of", page);
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    if (!schema.properties || /Validation/.test(name)) continue;
    const card = element("section", undefined, page);
    card.className = "card";
    element("code", name, element("h2", undefined, card));
    if (schema.description) element("p", schema.description, card).className = "soft";
    table("Fields", Object.entries(schema.properties).map(([field, own]) => [field, describe(own)]), card);
  }
}

tell();
