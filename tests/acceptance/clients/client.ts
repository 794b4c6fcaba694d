// A client as a TypeScript team would write it: types by openapi-typescript, calls by openapi-fetch, SigV4 by aws4fetch.
// tests/acceptance/clients/__main__.py compiles it, runs it, and reads the one line that it prints.
import { AwsClient } from "aws4fetch";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.ts";

type Schemas = components["schemas"];
type Case = { method: string; path: string; params: object; body: object | null; status: number; media: string; answer: object };
type Work = { url: string; region: string; key: string; secret: string; id: string; now: string; cases: Case[] };

declare const process: { env: Record<string, string> };

// The least that a payment needs: it must compile without any other field.
const payment = (id: string, now: string): Schemas["Transaction"] => ({
  transaction_id: id,
  type: "p2p",
  payer_id: "ts-payer",
  payee_id: "ts-payee",
  amount: 4200,
  currency: "JPY",
  occurred_at: now,
});
const denied: Schemas["DenyRequest"] = { reason: "stolen" };

const words = (error: Schemas["ErrorBody"]): string => ("message" in error ? error.message : error.title);

async function decided(work: Work): Promise<boolean> {
  const aws = new AwsClient({
    accessKeyId: work.key,
    secretAccessKey: work.secret,
    region: work.region,
    service: "execute-api",
    retries: 0,
  });
  const client = createClient<paths>({ baseUrl: work.url, fetch: (request) => aws.fetch(request) });
  const made = await client.POST("/decisions", { body: payment(work.id, work.now) });
  if (made.error) throw new Error(words(made.error));
  const found = await client.GET("/decisions/{transaction_id}", { params: { path: { transaction_id: work.id } } });
  if (found.error) throw new Error(words(found.error));
  const listed = await client.PUT("/lists/deny/{kind}/{value}", {
    params: { path: { kind: "device", value: "ts-device" } },
    body: denied,
  });
  if (listed.error) throw new Error(words(listed.error));
  return found.data.decision.outcome === made.data.outcome && listed.data.active;
}

async function survived(one: Case): Promise<boolean> {
  const answer = () => new Response(JSON.stringify(one.answer), { status: one.status, headers: { "content-type": one.media } });
  const client = createClient<paths>({ baseUrl: "http://stub", fetch: async () => answer() });
  const call = (client as never as Record<string, (path: string, init: object) => Promise<{ error: Schemas["ErrorBody"] }>>)[one.method]!;
  const { error } = await call(one.path, { params: one.params, body: one.body ?? undefined });
  return words(error).length > 0;
}

const work: Work = JSON.parse(process.env["WORK"]!);
const errors = await Promise.all(work.cases.map(survived));
console.log(JSON.stringify({ decided: await decided(work), survived: errors.filter(Boolean).length }));
