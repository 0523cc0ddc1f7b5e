// Asks with the AI SDK, whole and streamed, by responses and by chat completions, and prints what it saw as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const documents = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const tools = { file_search: documents.tools.fileSearch({ vectorStoreIds: ["vs_all"] }) };
const providerOptions = { openai: { include: ["file_search_call.results"] } };
const ways = {
  responses: { model: documents("rag") },
  searching: { model: documents("rag"), tools, providerOptions },
  completions: { model: documents.chat("rag") },
};
const seen = {};
for (const [name, way] of Object.entries(ways)) {
  const asked = { ...way, maxRetries: 0, includeRawChunks: true };
  const whole = await generateText({ ...asked, prompt: "When was the lighthouse built?" });
  const stream = streamText({ ...asked, prompt: `In which year was the lighthouse built, by ${name}?` });
  const parts = [];
  for await (const part of stream.fullStream) parts.push(part);
  const { text, sources, content } = whole;
  const streamed = { text: await stream.text, sources: await stream.sources, finish: await stream.finishReason };
  seen[name] = { whole: { text, sources, content }, streamed: { ...streamed, parts } };
}
console.log(JSON.stringify(seen));
