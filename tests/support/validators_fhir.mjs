// Validates FHIR R4 resources with npm `fhir` and the R4 JSON schema: node validators_fhir.mjs FILE, a JSON list of resources.
// Prints a JSON list: for each resource the messages of both, [] for none. NODE_PATH names the folder of the packages.
import fs from 'node:fs';
import { createRequire } from 'node:module';
const require = createRequire(import.meta.url);
const { Fhir } = require('fhir');
const JSONSchemaValidator = require('fhir-json-schema-validator');
const fhir = new Fhir(), schema = new JSONSchemaValidator();
const messages = (resource) => [
  ...fhir.validate(resource, { errorOnUnexpected: true }).messages
    .filter((m) => m.severity === 'error' || m.severity === 'fatal').map((m) => `npm fhir: ${m.location} ${m.message}`),
  ...schema.validate(resource).map((e) => `schema: ${e.dataPath} ${e.message}`),
];
console.log(JSON.stringify(JSON.parse(fs.readFileSync(process.argv[2])).map(messages)));
