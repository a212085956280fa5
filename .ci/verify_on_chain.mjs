// Compiles a verifier with solc, deploys it on a chain of anvil's own, and asks it about calls.
// node verify_on_chain.mjs NODE_MODULES VERIFIER.sol CALLS.json
// CALLS.json: [{"arguments": hex, "accepts": bool}]. Prints the gas of the first; exit 1 if a verdict differs.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join, resolve } from "node:path";

const [modules, source, calls] = process.argv.slice(2).map((path) => resolve(path));
const solc = createRequire(join(modules, "x.js"))("solc");
const input = {
  language: "Solidity",
  sources: { v: { content: readFileSync(source, "utf8") } },
  settings: {
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["evm.bytecode.object", "evm.methodIdentifiers"] } },
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = (output.errors ?? []).map((error) => error.formattedMessage);
if (problems.length > 0) throw new Error(problems.join("\n"));
const { evm } = output.contracts.v.NonosGroth16Verifier;
const [selector] = Object.values(evm.methodIdentifiers);

const port = await new Promise((done) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => done(port));
  });
});
const anvil = spawn(join(modules, "@foundry-rs/anvil-linux-amd64/bin/anvil"), ["--port", port, "--silent"]);
const rpc = async (method, ...params) => {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const headers = { "content-type": "application/json" };
  const answer = await (await fetch(`http://127.0.0.1:${port}`, { method: "POST", headers, body })).json();
  if (answer.error) throw new Error(answer.error.message);
  return answer.result;
};
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
try {
  for (let tries = 0; ; tries++) {
    try {
      await rpc("eth_chainId");
      break;
    } catch (error) {
      if (tries > 100) throw error;
      await pause(100);
    }
  }
  const [from] = await rpc("eth_accounts");
  const mined = async (transaction) => {
    const sent = await rpc("eth_sendTransaction", { from, gas: "0x989680", ...transaction });
    for (;;) {
      const receipt = await rpc("eth_getTransactionReceipt", sent);
      if (receipt) return receipt;
      await pause(50);
    }
  };
  const { contractAddress: to } = await mined({ data: `0x${evm.bytecode.object}` });
  for (const [place, call] of JSON.parse(readFileSync(calls, "utf8")).entries()) {
    const transaction = { from, to, data: `0x${selector}${call.arguments}` };
    const accepts = BigInt(await rpc("eth_call", transaction)) === 1n;
    if (accepts !== call.accepts) throw new Error(`call ${place}: ${accepts}, not ${call.accepts}`);
    // An estimate would be the least gas that does not revert, and too little gas is an answer too: no.
    if (place === 0) console.log(`gas of a transaction: ${Number((await mined(transaction)).gasUsed)}`);
  }
} finally {
  anvil.kill();
}
