// Asks with OpenAI's package for Node in each way, and prints what the client saw as JSON.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const asked = { model: "rag", tools: [{ type: "file_search", vector_store_ids: ["vs_all"] }] };

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const whole = await client.responses.create({ ...asked, input: "When was the lighthouse built?" });
const streamed = await collect(
  await client.responses.create({ ...asked, input: "In which year was the lighthouse built?", stream: true }),
);
const helper = client.responses.stream({ ...asked, input: "Since when has the lighthouse been built?" });
const helped = await helper.finalResponse();

// In the background, left after some events; followed again from there, then from each event, then by the helper.
const background = await client.responses.create({
  ...asked,
  input: "Who built the lighthouse?",
  background: true,
  stream: true,
});
const events = [];
for await (const event of background) {
  events.push(event);
  if (event.type === "response.output_text.delta") break;
}
const left = events.length;
const id = events[0].response.id;
const after = (number) => client.responses.retrieve(id, { stream: true, starting_after: number });
events.push(...(await collect(await after(events.at(-1).sequence_number))));
const resumed = [];
for (const event of events.slice(0, -1)) resumed.push(await collect(await after(event.sequence_number)));
const followed = await client.responses.stream({ response_id: id, starting_after: 4 }).finalResponse();

// In the background, polled; it cannot be cancelled any more.
const accepted = await client.responses.create({ ...asked, input: "Who was its engineer?", background: true });
let polled = accepted;
while (polled.status === "queued" || polled.status === "in_progress") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  polled = await client.responses.retrieve(polled.id);
}
const refused = await client.responses.cancel(polled.id).catch((error) => [error.status, error.code, error.param]);

const chat = { model: "rag", messages: [{ role: "user", content: "When was the lighthouse built?" }] };
const completion = await client.chat.completions.create(chat);
const chunks = await collect(await client.chat.completions.create({ ...chat, stream: true }));
const responses = { whole, streamed, helped, left, events, resumed, followed, accepted, polled, refused };
console.log(JSON.stringify({ ...responses, completion, chunks }));
