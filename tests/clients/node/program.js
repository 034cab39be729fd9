// Goes through what the etcd3 package for Node offers, on one endpoint, and prints what came of it.
//
//     program.js PORT PART...
//
// The lines are the same for every server that behaves as etcd does. A line "@kill" or "@stop" asks
// whoever runs the program to kill or to stop the server, to start it again, and to write a line when it serves.
//
// With TLS_DIRECTORY (ca.crt, client.crt, client.key) all of it goes over TLS. With AS_ROOT auth is enabled first, and the
// parts are gone through as root.
'use strict';

const { ExponentialBackoff } = require('cockatiel');
const { Etcd3, EtcdLockFailedError } = require('etcd3');
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const accounts = require('./accounts.js');

const PATIENCE_MS = 60_000;
const port = process.argv[2];

const AUTH = 'AS_ROOT' in process.env ? { username: 'root', password: 'pw' } : undefined;

function connect(options) {
  const faultHandling = { watchBackoff: new ExponentialBackoff({ initialDelay: 50, maxDelay: 500 }) };
  const directory = process.env.TLS_DIRECTORY;
  if (!directory) return new Etcd3({ hosts: `127.0.0.1:${port}`, faultHandling, ...options });
  const [rootCertificate, certChain, privateKey] = ['ca.crt', 'client.crt', 'client.key'].map(name =>
    fs.readFileSync(path.join(directory, name)),
  );
  const credentials = { rootCertificate, certChain, privateKey };
  return new Etcd3({ hosts: `https://127.0.0.1:${port}`, credentials, faultHandling, ...options });
}

const say = (...words) => console.log(words.map(word => (typeof word === 'string' ? word : JSON.stringify(word))).join(' '));

// What a promise fails with: the package's class, and what the server said.
const failure = promise =>
  Promise.resolve(promise).then(
    value => ['no error', value === undefined ? null : typeof value],
    error => `${error.constructor.name}: ${error.message}`,
  );

const text = kv =>
  kv
    ? `${kv.key} = ${String(kv.value).slice(0, 24)}, created ${kv.create_revision}, modified ${kv.mod_revision}, ` +
      `version ${kv.version}, leased ${kv.lease !== '0'}`
    : 'nothing';

const within = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const event = (emitter, name) => within(new Promise(resolve => emitter.once(name, resolve)), name);

async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`it does not come to be: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

async function singleKeys(etcd) {
  say('put', (await etcd.put('a').value('1')).header.revision);
  say('get', await etcd.get('a'), await etcd.get('a').number(), await etcd.get('a').buffer(), await etcd.get('none'));
  say('exists', await etcd.get('a').exists(), await etcd.get('none').exists());
  await etcd.put('json').value(JSON.stringify({ deep: [1, 2] }));
  say('json', await etcd.get('json').json(), await failure(etcd.get('a').serializable(true).json()));
  await etcd.put(Buffer.from([0, 255])).value(Buffer.from([1, 254]));
  say('binary', (await etcd.get(Buffer.from([0, 255])).buffer()).toString('hex'));
  say('before', text(await etcd.put('a').value('2').getPrevious()), await etcd.put('new').value('x').getPrevious().then(before => before.key));
  say('touch', (await etcd.put('a').touch()).header.revision, text((await etcd.get('a').exec()).kvs[0]));
  say('touch none', await failure(etcd.put('none').touch()));
  say('ignore the lease', (await etcd.put('a').value('3').ignoreLease()).header.revision);
  const first = (await etcd.get('a').exec()).kvs[0];
  say('old', await etcd.get('a').revision(first.create_revision), await failure(etcd.get('a').revision(1_000_000)));
  for (const bound of ['minModRevision', 'maxModRevision', 'minCreateRevision', 'maxCreateRevision']) {
    say(bound, await etcd.get('a')[bound](first.mod_revision), await etcd.get('a')[bound](first.create_revision));
  }
  say('no key', await failure(etcd.put('').value('x')), await failure(etcd.get('').exec()));
  say('no such lease', await failure(etcd.put('a').value('x').lease('4711')));
  say('large', await failure(etcd.put('large').value('x'.repeat(1_600_000))));
}

async function ranges(etcd) {
  for (let i = 0; i < 6; i++) await etcd.put(`k/${i}`).value(9 - i);
  for (const key of ['k/1', 'k/1', 'k/3', 'l']) await etcd.put(key).value('77');
  const all = () => etcd.getAll().prefix('k/');
  say('prefix', await all(), await all().count(), await all().numbers(), await all().json());
  for (const target of ['Key', 'Version', 'Create', 'Mod', 'Value']) {
    for (const order of ['None', 'Ascend', 'Descend']) {
      const keys = await all().sort(target, order).keys();
      // The order of equals is not promised.
      say('sorted', target, order, ['Version', 'Value'].includes(target) ? keys.sort() : keys);
    }
  }
  const limited = await all().limit(2).exec();
  say('limit', limited.kvs.map(text), limited.more, limited.count);
  say('keys', await etcd.getAll().inRange({ start: 'k/4', end: 'l' }).keys(), await etcd.getAll().all().count());
  say('buffers', Object.keys(await all().buffers()), (await all().keyBuffers()).length);
  say('bounds', await all().minModRevision(limited.header.revision - 2).keys());
  say('empty', await etcd.getAll().prefix('none'), await etcd.getAll().inRange({ start: 'k/3', end: 'k/2' }).keys());
  say('delete', (await etcd.delete().key('k/0')).deleted, (await etcd.delete().key('k/0')).deleted);
  say('delete', (await etcd.delete().prefix('k/').getPrevious()).map(text));
  say('delete', (await etcd.delete().inRange({ start: 'l', end: 'm' })).deleted, (await etcd.delete().all()).deleted);
}

async function transactions(etcd) {
  await etcd.put('t/a').value('5');
  const kv = (await etcd.get('t/a').exec()).kvs[0];
  const values = { Value: ['5', '6'], Version: [1, 2], Create: [Number(kv.create_revision), 1], Mod: [Number(kv.mod_revision), 1] };
  for (const [column, several] of Object.entries(values)) {
    for (const sign of ['==', '!=', '<', '>']) {
      const held = several.map(async value => (await etcd.if('t/a', column, sign, value).commit()).succeeded);
      say('compare', column, sign, await Promise.all(held));
    }
  }
  const done = await etcd
    .if('t/a', 'Value', '==', '5')
    .and('t/none', 'Create', '==', 0)
    .then(etcd.put('t/b').value('1'), etcd.get('t/a'), etcd.getAll().prefix('t/'), etcd.delete().key('t/none'))
    .else(etcd.put('t/c').value('1'))
    .commit();
  say('done', done.succeeded, done.responses.map(r => [r.response, (r[r.response].kvs || []).map(text)]));
  const refused = await etcd.if('t/a', 'Value', '>', '5').then(etcd.put('t/c').value('1')).else(etcd.get('t/a')).commit();
  say('refused', refused.succeeded, text(refused.responses[0].response_range.kvs[0]));
  const twice = etcd.if('t/a', 'Version', '>', 0).then(etcd.put('t/x').value('1'), etcd.put('t/x').value('2'));
  say('one key twice', await failure(twice.commit()));
  const many = [...Array(129).keys()].map(i => etcd.put(`t/${i}`).value('1'));
  say('too many', await failure(etcd.if('t/a', 'Version', '>', 0).then(...many).commit()));
  await etcd.delete().prefix('t/');
}

async function namespaces(etcd) {
  const one = etcd.namespace('one/');
  const deep = one.namespace('deep/');
  await one.put('a').value('1');
  await deep.put('a').value('2');
  say('all', await etcd.getAll().prefix('one/'), await one.getAll(), await deep.getAll());
  say('inside', await one.get('deep/a'), await deep.get('a').exists(), await deep.get('none'));
  say('txn', (await deep.if('a', 'Value', '==', '2').then(deep.put('b').value('3')).commit()).succeeded);
  const watcher = await one.watch().prefix('').create();
  const put = event(watcher, 'put');
  await deep.put('c').value('4');
  say('watch', text(await put));
  await watcher.cancel();
  say('delete', (await deep.delete().all()).deleted, await etcd.getAll().prefix('one/'));
}

// Collects what a watcher tells, from its start on.
class Taker {
  constructor(builder) {
    const watcher = (this.watcher = builder.watcher());
    this.connected = event(watcher, 'connected');
    this.told = [];
    watcher.on('put', (kv, before) => this.told.push(`put ${text(kv)}; before: ${text(before)}`));
    watcher.on('delete', (kv, before) => this.told.push(`delete ${text(kv)}; before: ${text(before)}`));
    watcher.on('error', error => this.told.push(`${error.constructor.name}: ${error.message}`));
  }

  async take(count) {
    await until(`${count} events`, () => this.told.length >= count);
    return '\n  ' + this.told.splice(0, count).join('\n  ');
  }
}

async function watches(etcd) {
  const first = Number((await etcd.put('w/a').value('0')).header.revision);
  const takers = {
    key: new Taker(etcd.watch().key('w/a')),
    prefix: new Taker(etcd.watch().prefix('w/').withPreviousKV()),
    range: new Taker(etcd.watch().inRange({ start: 'w/b', end: 'w/c' })),
    puts: new Taker(etcd.watch().prefix('w/').only('put')),
    deletes: new Taker(etcd.watch().prefix('w/').only('delete').withPreviousKV()),
    past: new Taker(etcd.watch().prefix('w/').startRevision(first)),
    future: new Taker(etcd.watch().prefix('w/').startRevision(first + 2)),
  };
  await Promise.all(Object.values(takers).map(taker => taker.connected));
  await etcd.put('w/a').value('1');
  await etcd.put('w/b').value('1');
  await etcd.if('w/a', 'Version', '>', 0).then(etcd.put('w/a').value('2'), etcd.put('w/c').value('1'),
    etcd.delete().key('w/b')).commit();
  await etcd.delete().prefix('w/');
  const counts = { key: 3, prefix: 7, range: 2, puts: 4, deletes: 3, past: 8, future: 6 };
  for (const [name, count] of Object.entries(counts)) say(name, await takers[name].take(count));
  await takers.key.watcher.cancel();
  await etcd.put('w/a').value('3');
  say('the others go on', await takers.prefix.take(1), takers.key.told);
  await Promise.all(Object.values(takers).slice(1).map(taker => taker.watcher.cancel()));

  const many = [...Array(60).keys()].map(i => new Taker(etcd.watch().key(`many/${i}`)));
  await Promise.all(many.map(taker => taker.connected));
  for (let i = 0; i < 60; i++) await etcd.put(`many/${i}`).value('x');
  for (const taker of many) await taker.take(1);
  say('many', many.length);
  await Promise.all(many.map(taker => taker.watcher.cancel()));

  const last = (await etcd.put('w/a').value('kept')).header.revision;
  await etcd.kv.compact({ revision: last });
  const compacted = new Taker(etcd.watch().key('w/a').startRevision(first));
  compacted.connected.catch(() => undefined);
  say('compacted', await compacted.take(1), await failure(etcd.get('w/a').revision(first)));
  say('compacted again', await failure(etcd.kv.compact({ revision: last })),
    await failure(etcd.kv.compact({ revision: 1_000_000 })));
}

// The package watches again by itself, from where it was.
async function restart(etcd) {
  for (const how of ['@kill', '@stop']) await restarted(etcd, how);
}

async function restarted(etcd, how) {
  const taker = new Taker(etcd.watch().prefix('r/'));
  await taker.connected;
  await etcd.put('r/a').value('before');
  say('before', await taker.take(1));
  const connected = event(taker.watcher, 'connected');
  const input = readline.createInterface({ input: process.stdin });
  const serves = event(input, 'line');
  say(how);
  await serves;
  input.close();
  const other = connect({ auth: AUTH });
  await until('it serves', () => other.put('r/b').value(`after ${how}`).then(() => true, () => false));
  other.close();
  await connected;
  say('after', await taker.take(1));
  await taker.watcher.cancel();
  await until('this client sees it', () => etcd.get('r/b').then(value => value === `after ${how}`, () => false));
}

async function leases(etcd) {
  const lease = etcd.lease(60, { autoKeepAlive: false });
  const id = await lease.grant();
  await lease.put('l/a').value('1');
  await etcd.put('l/b').value('1').lease(id);
  const left = await etcd.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  say('lease', left.grantedTTL, Number(left.TTL) <= 60, left.keys.map(String).sort(), text((await etcd.get('l/a').exec()).kvs[0]));
  say('listed', (await etcd.leaseClient.leaseLeases()).leases.some(one => one.ID === id));
  say('kept', (await lease.keepaliveOnce()).TTL);
  const taker = new Taker(etcd.watch().prefix('l/').withPreviousKV());
  await taker.connected;
  await lease.revoke();
  say('revoked', lease.revoked(), await taker.take(2));
  const gone = await etcd.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  say('gone', gone.TTL, gone.grantedTTL, gone.keys, await failure(etcd.leaseClient.leaseRevoke({ ID: id })));
  say('put', await failure(etcd.put('l/a').value('1').lease(id)));

  const lost = etcd.lease(60, { autoKeepAlive: false });
  await etcd.leaseClient.leaseRevoke({ ID: await lost.grant() });
  const told = event(lost, 'lost');
  say('lost', (await failure(lost.keepaliveOnce())).replace(/\d{5,}/, 'ID'), (await told).constructor.name);

  const kept = etcd.lease(9);
  const succeeded = event(kept, 'keepaliveSucceeded');
  await kept.put('l/kept').value('x');
  say('kept by itself', (await succeeded).TTL, await taker.take(1));
  await kept.revoke();
  say('given back', await taker.take(1));
  const short = etcd.lease(6, { autoKeepAlive: false });
  await short.put('l/short').value('x');
  say('ends by itself', await taker.take(2));
  await taker.watcher.cancel();
}

async function locks(etcd) {
  const lock = etcd.lock('lock/x').ttl(60);
  await lock.acquire();
  say('held', text((await etcd.get('lock/x').exec()).kvs[0]), (await lock.leaseId()) !== null);
  const other = await etcd.lock('lock/x').acquire().catch(error => error);
  say('taken', other instanceof EtcdLockFailedError, other.message);
  await lock.release();
  say('released', await etcd.get('lock/x').exists());
  say('done', await etcd.lock('lock/x').do(async () => (await etcd.get('lock/x').exists()) && 'inside'));
  say('thrown', await failure(etcd.lock('lock/x').do(() => Promise.reject(new Error('mine')))), await etcd.get('lock/x').exists());
}

async function stm(etcd) {
  // Both at one revision: the strictest isolation refuses a write to a key that is newer than another that was read.
  const put = (a, b) => etcd.if('none', 'Create', '==', 0).then(etcd.put('stm/a').value(a), etcd.put('stm/b').value(b)).commit();
  await put(100, 0);
  for (const isolation of [0, 1, 2, 3]) {
    let tries = 0;
    const moved = etcd.stm({ isolation, retries: 5 }).transact(async tx => {
      const [a, b] = [await tx.get('stm/a').number(), await tx.get('stm/b').number()];
      if (tries++ === 0) await put(a, b); // somebody else writes meanwhile
      await tx.put('stm/a').value(a - 10);
      await tx.put('stm/b').value(b + 10);
      await tx.delete().key('stm/none');
      return tx.get('stm/a').number();
    });
    say('isolation', isolation, await moved, tries, await etcd.getAll().prefix('stm/').numbers());
  }
  const conflict = etcd.stm({ retries: 0 }).transact(async tx => {
    const a = await tx.get('stm/a').number();
    await etcd.put('stm/a').value(a);
    await tx.put('stm/a').value(0);
  });
  say('conflict', await failure(conflict), await etcd.get('stm/a').number());
  const add = () => etcd.stm({ retries: 1000 }).transact(async tx => tx.put('stm/a').value((await tx.get('stm/a').number()) + 1));
  await Promise.all([...Array(10).keys()].map(add));
  say('added', await etcd.get('stm/a').number());
}

async function elections(etcd) {
  const election = etcd.election('boss', 60);
  const observer = await election.observe();
  const changes = [];
  observer.on('change', leader => changes.push(leader === undefined ? 'nobody' : leader));
  say('nobody', observer.leader() === undefined, (await election.leader()) === undefined);
  const one = election.campaign('one');
  await within(one.wait(), 'elected');
  await until('one is seen', () => changes.includes('one'));
  const two = election.campaign('two');
  const elected = within(two.wait(), 'elected');
  await event(two, '_isWaiting');
  await one.proclaim('one, again');
  await until('the proclamation is seen', () => changes.includes('one, again'));
  say('leader', await election.leader(), observer.leader());
  await one.resign();
  await elected;
  await until('two is seen', () => changes.includes('two'));
  say('resigned', await failure(one.proclaim('late')), await election.leader());
  await two.resign();
  await until('nobody is seen', () => changes.includes('nobody'));
  await observer.cancel();
  say('changes', changes);
}

async function maintenance(etcd) {
  const status = await etcd.maintenance.status();
  say('status', status.version.split('.')[0], Number(status.dbSize) > 0, Number(status.raftIndex) > 0, status.leader !== '0');
  const members = (await etcd.cluster.memberList({})).members;
  say('members', members.map(member => [member.name, member.clientURLs.length, member.ID === status.leader]));
  say('defragment', Object.keys(await etcd.maintenance.defragment()));
  say('hash', typeof (await etcd.maintenance.hash()).hash);
  const stream = await etcd.maintenance.snapshot();
  let size = 0;
  stream.on('data', piece => (size += piece.blob.length));
  await event(stream, 'end');
  say('snapshot', size % 512);
  const alarm = action => etcd.maintenance.alarm({ action, memberID: 0, alarm: 'NOSPACE' });
  say('alarm', (await alarm('ACTIVATE')).alarms.map(one => one.alarm), await failure(etcd.put('full').value('x')));
  say('alarm', (await alarm('GET')).alarms.length, (await alarm('DEACTIVATE')).alarms.length, (await alarm('GET')).alarms.length);
  say('put', (await etcd.put('full').value('x')).header.revision);
}

// The RPCs as they are.
async function calls(etcd) {
  const { kv, cluster, maintenance, leaseClient, watchClient } = etcd;
  const put = await kv.put({ key: Buffer.from('c/a'), value: Buffer.from('1'), prev_kv: true });
  say('put', Number(put.header.revision) > 0, put.prev_kv);
  const range = { key: Buffer.from('c/'), range_end: Buffer.from('c0') };
  say('range', (await kv.range({ ...range, sort_order: 'DESCEND', sort_target: 'MOD', keys_only: true })).kvs.map(text));
  const txn = await kv.txn({
    compare: [{ key: Buffer.from('c/a'), target: 'VERSION', result: 'EQUAL', version: '1' }],
    success: [{ request_txn: { compare: [], success: [{ request_range: range }], failure: [] } }, { request_delete_range: range }],
    failure: [],
  });
  say('txn', txn.succeeded, txn.responses.map(one => one.response));
  say('delete', (await kv.deleteRange(range)).deleted, await failure(kv.range({ ...range, revision: '1000000' })));

  const lease = await leaseClient.leaseGrant({ TTL: 50, ID: '4242' });
  say('lease', lease.ID, lease.TTL, await failure(leaseClient.leaseGrant({ TTL: 50, ID: '4242' })));
  const renewals = await leaseClient.leaseKeepAlive();
  const renewed = event(renewals, 'data');
  renewals.write({ ID: '4242' });
  say('renewed', (await renewed).TTL);
  renewals.end();
  say('revoked', Object.keys(await leaseClient.leaseRevoke({ ID: '4242' })));

  const stream = await watchClient.watch();
  const created = event(stream, 'data');
  stream.write({ create_request: { key: Buffer.from('c/w'), progress_notify: true, prev_kv: true } });
  const { watch_id } = await created;
  const told = event(stream, 'data');
  await etcd.put('c/w').value('seen');
  say('watch', watch_id, (await told).events.map(one => [one.type, text(one.kv), one.prev_kv]));
  const progress = event(stream, 'data');
  stream.write({ progress_request: {} });
  say('progress', (await progress).watch_id, (await progress).events.length);
  const cancelled = event(stream, 'data');
  stream.write({ cancel_request: { watch_id } });
  say('cancelled', (await cancelled).canceled);
  stream.end();

  const [own] = (await cluster.memberList({})).members;
  const update = peerURLs => cluster.memberUpdate({ ID: own.ID, peerURLs });
  say('update', (await update(['http://127.0.0.1:1'])).members.map(one => one.peerURLs));
  say('update', (await update(own.peerURLs)).members[0].peerURLs.length);
  const none = { ID: '4711', peerURLs: ['http://127.0.0.1:1'] };
  say('none of them', await failure(cluster.memberUpdate(none)), await failure(cluster.memberRemove(none)),
    await failure(cluster.memberPromote(none)));
  say('move', await failure(maintenance.moveLeader({ targetID: '4711' })));
  const downgrade = (action, version) => failure(maintenance.downgrade({ action, version }));
  say('downgrade', await downgrade('VALIDATE', '3.6.0'), await downgrade('VALIDATE', '3.5.0'), await downgrade('CANCEL', ''));
  await etcd.delete().prefix('c/');
}

const PARTS = { singleKeys, ranges, transactions, namespaces, watches, restart, leases, locks, stm, elections, maintenance,
  calls, accounts: etcd => accounts.run(etcd, { connect, say, failure, text, event }) };

async function main() {
  if (AUTH) {
    const etcd = connect();
    await accounts.enable(etcd);
    etcd.close();
  }
  const etcd = connect({ auth: AUTH });
  for (const name of process.argv.slice(3)) {
    say('##', name);
    await PARTS[name](etcd);
  }
  etcd.close();
  say('## the end');
}

main().then(
  () => process.exit(0),
  error => {
    console.log('FAILED', error.stack);
    process.exit(1);
  },
);
