// Users, roles and what they may do.
'use strict';

// Root is the one user.
async function enable(etcd) {
  await etcd.role('root').create();
  await (await etcd.user('root').create('pw')).addRole('root');
  await etcd.auth.authEnable();
}

const names = list => list.map(one => one.name).sort();
const permissions = list => list.map(one => [one.permission, String(one.range.start), String(one.range.end)]);

async function run(etcd, { connect, say, failure, text, event }) {
  say('without users', await failure(etcd.auth.authEnable()), (await etcd.auth.authStatus()).enabled);
  for (const [name, password] of [['root', 'pw'], ['ann', 'a'], ['ann', 'b'], ['bob', 'b'], ['', 'x']]) {
    say('user', name, await failure(etcd.user(name).create(password)));
  }
  for (const role of ['root', 'some', 'some', '']) say('role', role, await failure(etcd.role(role).create()));
  const some = etcd.role('some');
  await some.grant({ permission: 'Read', range: etcd.range({ prefix: 'r/' }) });
  await some.grant([{ permission: 'Write', key: 'w' }, { permission: 'Readwrite', range: etcd.range({ start: 'b/', end: 'b0' }) }]);
  say('permissions', permissions(await some.permissions()), await failure(etcd.role('none').permissions()));
  await etcd.role('root').addUser('root');
  await etcd.user('ann').addRole(some);
  say('roles', names(await etcd.user('ann').roles()), await failure(etcd.user('ann').addRole('none')), await failure(some.addUser('none')));
  say('all', names(await etcd.getUsers()), names(await etcd.getRoles()));
  await etcd.put('r/1').value('readable');
  await etcd.put('secret').value('x');
  await etcd.auth.authEnable();

  say('nobody', await failure(etcd.get('r/1').string()), await failure(etcd.put('w').value('x')), await failure(etcd.kv.compact({ revision: 1 })));
  const as = (username, password) => connect({ auth: { username, password } });
  for (const [user, password] of [['ann', 'b'], ['none', 'b']]) {
    const wrong = as(user, password);
    say('wrong', user, await failure(wrong.get('r/1').string()));
    wrong.close();
  }
  const root = as('root', 'pw');
  const ann = as('ann', 'a');
  const bob = as('bob', 'b');
  say('on', (await root.auth.authStatus()).enabled);
  const asked = {
    'get r/1': one => one.get('r/1').string(),
    'get r/': one => one.getAll().prefix('r/').strings(),
    'get all': one => one.getAll().strings(),
    'get secret': one => one.get('secret').string(),
    'put w': one => one.put('w').value('1'),
    'put w with the old one': one => one.put('w').value('2').getPrevious(),
    'put r/1': one => one.put('r/1').value('1'),
    'put b/1': one => one.put('b/1').value('1').getPrevious(),
    'delete b/': one => one.delete().prefix('b/'),
    transaction: one => one.if('b/2', 'Version', '==', 0).then(one.put('b/2').value('1'), one.get('secret')).commit(),
    lock: one => one.lock('b/lock').do(() => 'held'),
    'lock elsewhere': one => one.lock('locks').do(() => 'held'),
    compact: one => one.kv.compact({ revision: 1 }),
    defragment: one => one.maintenance.defragment(),
    hash: one => one.maintenance.hash(),
    members: one => one.cluster.memberList({}),
    users: one => one.getUsers(),
    'her roles': one => one.user('ann').roles(),
    disable: one => one.auth.authDisable(),
  };
  for (const [name, call] of Object.entries(asked)) {
    for (const [user, client] of [['bob', bob], ['ann', ann]]) say(user, name, await failure(call(client)));
  }
  const watcher = await ann.watch().key('b/1').create();
  const told = event(watcher, 'put');
  await root.put('b/1').value('seen');
  say('watch', text(await told));
  await watcher.cancel();
  const lease = ann.lease(60, { autoKeepAlive: false });
  await lease.put('b/leased').value('x');
  say('lease', (await lease.keepaliveOnce()).TTL, (await root.get('b/leased').exec()).kvs.length);
  await lease.revoke();

  await root.user('ann').setPassword('c');
  const late = as('ann', 'a');
  say('the old password', await failure(late.get('r/1').string()));
  late.close();
  const changed = as('ann', 'c');
  say('the new password', await changed.get('r/1').string());
  await root.role('some').revoke({ permission: 'Write', key: 'w' });
  say('revoked', await failure(changed.put('w').value('3')), permissions(await root.role('some').permissions()));
  await root.role('some').removeUser('ann');
  say('removed', await failure(changed.get('r/1').string()), await failure(root.user('ann').removeRole('some')));
  await root.role('some').delete();
  await root.user('bob').delete();
  say('deleted', await failure(bob.get('r/1').string()), await failure(root.role('some').delete()), await failure(root.user('root').delete()));
  await root.auth.authDisable();
  say('off', await etcd.get('r/1').string(), (await etcd.auth.authStatus()).enabled);
  for (const client of [root, ann, bob, changed]) client.close();
  for (const user of await etcd.getUsers()) await user.delete();
  for (const role of await etcd.getRoles()) await role.delete();
  say('nobody is left', names(await etcd.getUsers()), names(await etcd.getRoles()));
}

module.exports = { enable, run };
