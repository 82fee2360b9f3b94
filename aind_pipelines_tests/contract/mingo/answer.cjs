// Reads cases from stdin as JSON, answers each with mingo, and prints the answers as JSON. Dates are {"$date": "..."}.
// The folder that holds node_modules is the only argument.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { resolve } = require("node:path");
const mingo = createRequire(resolve(process.argv[2], "here.js"))("mingo");

const revive = (value) => {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$date === "string") return new Date(value.$date);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item)]));
};

const plain = (value) => {
  if (value instanceof Date) return { $date: value.toISOString() };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
};

const answer = ({ documents, operation }) => {
  if (operation.aggregate) return mingo.aggregate(documents, operation.aggregate);
  const found = (filter, projection) => mingo.find(documents, filter ?? {}, projection ?? {});
  if (operation.count) return found(operation.count).all().length;
  if (operation.distinct) {
    const stages = [{ $match: operation.filter ?? {} }];
    const parts = operation.distinct.split(".");
    parts.forEach((_, place) => stages.push({ $unwind: "$" + parts.slice(0, place + 1).join(".") }));
    return mingo.aggregate(documents, [...stages, { $group: { _id: "$" + operation.distinct } }]).map(({ _id }) => _id);
  }
  let cursor = found(operation.find, operation.projection);
  if (operation.sort) cursor = cursor.sort(Object.fromEntries(operation.sort));
  if (operation.skip) cursor = cursor.skip(operation.skip);
  if (operation.limit) cursor = cursor.limit(operation.limit);
  return cursor.all();
};

const answers = revive(JSON.parse(readFileSync(0, "utf8"))).map((one) => {
  try {
    return { answer: plain(answer(one)) };
  } catch (error) {
    return { refused: String(error.message ?? error) };
  }
});
process.stdout.write(JSON.stringify(answers));
