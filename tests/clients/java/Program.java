// Goes through what jetcd offers, on one endpoint, and prints what came of it.
//
//     Program PORT PART...
//
// The lines are the same for every server that behaves as etcd does. A line "@kill" or "@stop" asks whoever runs the
// program to kill or to stop the server, to start it again, and to write a line when it serves. With TLS_DIRECTORY
// (ca.crt, client.crt, client.key) it comes over TLS.

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public class Program {
  static final long PATIENCE_S = 60;
  static String endpoint;
  static final BufferedReader input = new BufferedReader(new InputStreamReader(System.in));

  static ClientBuilder builder() throws Exception {
    ClientBuilder out = Client.builder().endpoints(endpoint);
    String directory = System.getenv("TLS_DIRECTORY");
    if (directory == null) return out;
    return out.sslContext(GrpcSslContexts.forClient().trustManager(new File(directory, "ca.crt"))
        .keyManager(new File(directory, "client.crt"), new File(directory, "client.key")).build());
  }

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  static void say(Object... words) {
    List<String> out = new ArrayList<>();
    for (Object word : words) out.add(String.valueOf(word));
    System.out.println(String.join(" ", out));
    System.out.flush();
  }

  static <T> T await(CompletableFuture<T> future) throws Exception {
    return future.get(PATIENCE_S, TimeUnit.SECONDS);
  }

  static String failure(Callable<CompletableFuture<?>> call) {
    try {
      call.call().get(PATIENCE_S, TimeUnit.SECONDS);
      return "no error";
    } catch (ExecutionException error) {
      return error.getCause().getClass().getSimpleName() + ": " + error.getCause().getMessage();
    } catch (Exception error) {
      return error.getClass().getSimpleName() + ": " + error.getMessage();
    }
  }

  static <T> T next(BlockingQueue<T> queue, String what) throws Exception {
    T out = queue.poll(PATIENCE_S, TimeUnit.SECONDS);
    if (out == null) throw new IllegalStateException("nothing came: " + what);
    return out;
  }

  static void until(String what, Callable<Boolean> holds) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
    while (!holds.call()) {
      if (System.nanoTime() > end) throw new IllegalStateException("it does not come to be: " + what);
      Thread.sleep(20);
    }
  }

  static String text(KeyValue kv) {
    String value = kv.getValue().toString();
    return kv.getKey() + " = " + value.substring(0, Math.min(24, value.length())) + ", created " + kv.getCreateRevision() + ", modified "
        + kv.getModRevision() + ", version " + kv.getVersion() + ", leased " + (kv.getLease() != 0);
  }

  static String texts(List<KeyValue> kvs) {
    return kvs.stream().map(Program::text).collect(Collectors.joining("; ", "[", "]"));
  }

  static String names(List<KeyValue> kvs) {
    return kvs.stream().map(kv -> kv.getKey().toString()).collect(Collectors.joining(" ", "[", "]"));
  }

  static String event(WatchEvent event) {
    KeyValue before = event.getPrevKV();
    return event.getEventType() + " " + text(event.getKeyValue()) + " before " + (before == null ? "" : before.getValue());
  }

  static void restart(String how) throws Exception {
    say(how);
    input.readLine();
  }

  static void single_keys(Client client) throws Exception {
    var kv = client.getKVClient();
    say("put", await(kv.put(bytes("a"), bytes("1"))).getHeader().getRevision());
    say("put again", text(await(kv.put(bytes("a"), bytes("2"), PutOption.builder().withPrevKV().build())).getPrevKv()));
    say("put new", await(kv.put(bytes("new"), bytes(""), PutOption.builder().withPrevKV().build())).hasPrevKv());
    say("get", texts(await(kv.get(bytes("a"))).getKvs()), texts(await(kv.get(bytes("none"))).getKvs()));
    ByteSequence odd = ByteSequence.from(new byte[] {0, (byte) 255});
    await(kv.put(odd, odd));
    say("binary", await(kv.get(odd)).getKvs().get(0).getValue().equals(odd));
    say("empty key", failure(() -> kv.put(bytes(""), bytes("x"))));
    say("unknown lease", failure(() -> kv.put(bytes("a"), bytes("x"), PutOption.builder().withLeaseId(4711).build())));
    String large = "x".repeat(1_000_000);
    await(kv.put(bytes("large"), bytes(large)));
    say("large", await(kv.get(bytes("large"))).getKvs().get(0).getValue().toString().equals(large));
    say("too large", failure(() -> kv.put(bytes("large"), bytes("x".repeat(2_000_000)))));
    say("delete", await(kv.delete(bytes("a"))).getDeleted(), await(kv.delete(bytes("a"))).getDeleted());
    say("delete what was", texts(await(kv.delete(bytes("new"), DeleteOption.builder().withPrevKV(true).build())).getPrevKvs()));
  }

  static void ranges(Client client) throws Exception {
    var kv = client.getKVClient();
    for (int i = 0; i < 6; i++) await(kv.put(bytes("k" + i), bytes("v" + (9 - i))));
    await(kv.put(bytes("k3"), bytes("again")));
    long revision = await(kv.put(bytes("k1"), bytes("again"))).getHeader().getRevision();
    say("prefix", names(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).build())).getKvs()));
    say("range", names(await(kv.get(bytes("k1"), GetOption.builder().withRange(bytes("k4")).build())).getKvs()));
    for (var field : GetOption.SortTarget.values())
      for (var order : GetOption.SortOrder.values())
        say("sorted", field, order,
            names(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withSortField(field).withSortOrder(order).build())).getKvs()));
    GetResponse limited = await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withLimit(2).build()));
    say("limit", names(limited.getKvs()), limited.getCount(), limited.isMore());
    say("keys only", texts(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withKeysOnly(true).build())).getKvs()));
    GetResponse counted = await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withCountOnly(true).build()));
    say("count only", counted.getCount(), counted.getKvs().size());
    say("at a revision", texts(await(kv.get(bytes("k1"), GetOption.builder().withRevision(revision - 1).build())).getKvs()));
    say("in the future", failure(() -> kv.get(bytes("k1"), GetOption.builder().withRevision(revision + 100).build())));
    say("serializable", names(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withSerializable(true).build())).getKvs()));
    say("by revisions", names(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true).withMinModRevision(revision - 2)
        .withMaxModRevision(revision - 1).build())).getKvs()), names(await(kv.get(bytes("k"), GetOption.builder().isPrefix(true)
        .withMinCreateRevision(revision - 3).build())).getKvs()));
    say("compact", await(kv.compact(revision, CompactOption.builder().withCompactPhysical(true).build())).getHeader().getRevision() == revision);
    say("compacted", failure(() -> kv.get(bytes("k1"), GetOption.builder().withRevision(revision - 1).build())));
    say("compact again", failure(() -> kv.compact(revision)), failure(() -> kv.compact(revision + 100)));
    say("delete", await(kv.delete(bytes("k1"), DeleteOption.builder().withRange(bytes("k3")).build())).getDeleted(),
        await(kv.delete(bytes("k"), DeleteOption.builder().isPrefix(true).build())).getDeleted());
    Client named = builder().namespace(bytes("name/")).build();
    await(named.getKVClient().put(bytes("in"), bytes("1")));
    say("namespace", names(await(named.getKVClient().get(bytes("i"), GetOption.builder().isPrefix(true).build())).getKvs()),
        names(await(kv.get(bytes("name/"), GetOption.builder().isPrefix(true).build())).getKvs()));
    named.close();
  }

  static String text(TxnResponse response) {
    return response.isSucceeded() + " puts " + response.getPutResponses().size() + " gets "
        + response.getGetResponses().stream().map(one -> texts(one.getKvs())).collect(Collectors.joining(" ")) + " deletes "
        + response.getDeleteResponses().stream().map(one -> String.valueOf(one.getDeleted())).collect(Collectors.joining(" ")) + " txns "
        + response.getTxnResponses().stream().map(Program::text).collect(Collectors.joining(" ", "(", ")"));
  }

  static void transactions(Client client) throws Exception {
    var kv = client.getKVClient();
    ByteSequence a = bytes("a"), b = bytes("b");
    await(kv.put(a, bytes("1")));
    GetOption get = GetOption.DEFAULT;
    say(text(await(kv.txn().If(new Cmp(a, Cmp.Op.EQUAL, CmpTarget.value(bytes("1"))))
        .Then(Op.put(b, bytes("x"), PutOption.DEFAULT), Op.get(b, get)).Else(Op.get(a, get)).commit())));
    say(text(await(kv.txn().If(new Cmp(a, Cmp.Op.GREATER, CmpTarget.version(1)), new Cmp(b, Cmp.Op.LESS, CmpTarget.modRevision(1000)))
        .Then(Op.put(b, bytes("x"), PutOption.DEFAULT)).Else(Op.get(a, get), Op.delete(b, DeleteOption.DEFAULT)).commit())));
    say(text(await(kv.txn().If(new Cmp(bytes("none"), Cmp.Op.EQUAL, CmpTarget.createRevision(0)), new Cmp(a, Cmp.Op.NOT_EQUAL, CmpTarget.value(b)))
        .Then(Op.txn(new Cmp[] {new Cmp(a, Cmp.Op.EQUAL, CmpTarget.version(2))}, new Op[] {Op.put(a, b, PutOption.DEFAULT)},
            new Op[] {Op.get(a, get), Op.put(b, a, PutOption.DEFAULT)})).commit())));
    say("empty", text(await(kv.txn().commit())));
    say("twice", failure(() -> kv.txn().Then(Op.put(a, a, PutOption.DEFAULT), Op.put(a, b, PutOption.DEFAULT)).commit()));
    Op[] many = new Op[129];
    for (int i = 0; i < many.length; i++) many[i] = Op.put(bytes("many" + i), a, PutOption.DEFAULT);
    say("many", failure(() -> kv.txn().Then(many).commit()));
  }

  static void watches(Client client) throws Exception {
    var kv = client.getKVClient();
    BlockingQueue<String> events = new LinkedBlockingQueue<>();
    Watch.Listener listener = Watch.listener((WatchResponse response) -> {
      if (response.isProgressNotify()) events.add("progress");
      for (WatchEvent event : response.getEvents()) events.add(event(event));
    }, error -> events.add(error.getClass().getSimpleName() + ": " + error.getMessage()), () -> events.add("completed"));
    long first = await(kv.put(bytes("w/a"), bytes("0"))).getHeader().getRevision();
    var watch = client.getWatchClient();
    Watch.Watcher watcher = watch.watch(bytes("w/"), WatchOption.builder().isPrefix(true).withPrevKV(true).withRevision(first).build(), listener);
    say(next(events, "the past"));
    await(kv.put(bytes("w/a"), bytes("1")));
    await(kv.delete(bytes("w/a")));
    await(kv.put(bytes("w/b"), bytes("x".repeat(100_000))));
    await(kv.put(bytes("other"), bytes("x")));
    for (int i = 0; i < 3; i++) say(next(events, "an event"));
    watcher.requestProgress();
    say(next(events, "progress"));
    watcher.close();
    say(next(events, "the end"));
    for (String which : new String[] {"puts", "deletes"}) {
      WatchOption.Builder option = WatchOption.builder().withRevision(first);
      watcher = watch.watch(bytes("w/a"), (which.equals("puts") ? option.withNoDelete(true) : option.withNoPut(true)).build(), listener);
      say(which, next(events, which), which.equals("puts") ? next(events, which) : "");
      watcher.close();
      say(next(events, "the end"));
    }
    long now = await(kv.put(bytes("w/c"), bytes("1"))).getHeader().getRevision();
    await(kv.compact(now));
    watcher = watch.watch(bytes("w/a"), WatchOption.builder().withRevision(first).build(), listener);
    say(next(events, "compacted"));
    watcher.close();
    events.clear();
    watcher = watch.watch(bytes("w/"), WatchOption.builder().isPrefix(true).withRevision(now + 1).build(), listener);
    for (String how : new String[] {"@stop", "@kill"}) {
      restart(how);
      // A connection that breaks may end a call; the key is put until one arrives.
      until("a put", () -> failure(() -> kv.put(bytes("w/" + how), bytes("after"))).equals("no error"));
      // What the listener is told of the connection that broke depends on when it broke.
      String[] event = {""};
      while (!event[0].equals("PUT")) event = next(events, "an event after a restart").split(" ");
      say(event[0], event[1]);
    }
    watcher.close();
  }

  static void leases(Client client) throws Exception {
    var lease = client.getLeaseClient();
    var kv = client.getKVClient();
    long id = await(lease.grant(1000)).getID();
    await(kv.put(bytes("l/a"), bytes("1"), PutOption.builder().withLeaseId(id).build()));
    await(kv.put(bytes("l/b"), bytes("1"), PutOption.builder().withLeaseId(id).build()));
    var left = await(lease.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
    say("time to live", left.getGrantedTTL(), left.getTTL() > 0 && left.getTTL() <= 1000,
        left.getKeys().stream().map(ByteSequence::toString).sorted().collect(Collectors.toList()));
    say("kept once", await(lease.keepAliveOnce(id)).getTTL());
    BlockingQueue<String> renewals = new LinkedBlockingQueue<>();
    long brief = await(lease.grant(3)).getID();
    var kept = lease.keepAlive(brief, new StreamObserver<LeaseKeepAliveResponse>() {
      public void onNext(LeaseKeepAliveResponse response) {
        renewals.add("renewed " + response.getTTL());
      }

      public void onError(Throwable error) {
        renewals.add(error.getClass().getSimpleName() + ": " + error.getMessage());
      }

      public void onCompleted() {
        renewals.add("completed");
      }
    });
    for (int i = 0; i < 3; i++) say(next(renewals, "a renewal"));
    kept.close();
    until("the lease ends", () -> await(lease.timeToLive(brief, LeaseOption.DEFAULT)).getTTL() < 0);
    say("ended", await(lease.timeToLive(brief, LeaseOption.DEFAULT)).getTTL(), failure(() -> lease.keepAliveOnce(brief)), failure(() -> lease.revoke(brief)));
    await(lease.revoke(id));
    say("revoked", names(await(kv.get(bytes("l/"), GetOption.builder().isPrefix(true).build())).getKvs()));
    say("too long", failure(() -> lease.grant(9_000_000_001L)));
  }

  static void locks(Client client) throws Exception {
    var lock = client.getLockClient();
    var lease = client.getLeaseClient();
    var kv = client.getKVClient();
    long one = await(lease.grant(600)).getID(), two = await(lease.grant(600)).getID();
    ByteSequence held = await(lock.lock(bytes("mutex"), one)).getKey();
    say("locked", held.toString().equals("mutex/" + Long.toHexString(one)));
    say("again", await(lock.lock(bytes("mutex"), one)).getKey().equals(held));
    var waiting = lock.lock(bytes("mutex"), two);
    GetOption all = GetOption.builder().isPrefix(true).build();
    until("two", () -> await(kv.get(bytes("mutex/"), all)).getKvs().size() == 2);
    say("the second waits", waiting.isDone());
    await(lock.unlock(held));
    ByteSequence second = await(waiting).getKey();
    say("handed on", second.toString().equals("mutex/" + Long.toHexString(two)), names(await(kv.get(held)).getKvs()));
    var third = lock.lock(bytes("mutex"), one);
    until("two", () -> await(kv.get(bytes("mutex/"), all)).getKvs().size() == 2);
    await(lease.revoke(two));
    say("handed on, as its lease is gone", await(third).getKey().toString().startsWith("mutex/"));
    await(lock.unlock(await(third).getKey()));
    say("unknown lease", failure(() -> lock.lock(bytes("mutex"), 4711)));
    say("unlock what is not locked", failure(() -> lock.unlock(bytes("mutex/none"))));
    say("left", await(kv.get(bytes("mutex/"), all)).getCount());
  }

  static void elections(Client client) throws Exception {
    Election election = client.getElectionClient();
    var lease = client.getLeaseClient();
    ByteSequence name = bytes("boss");
    long one = await(lease.grant(600)).getID(), two = await(lease.grant(600)).getID();
    say("nobody", failure(() -> election.leader(name)));
    BlockingQueue<String> seen = new LinkedBlockingQueue<>();
    election.observe(name, new Election.Listener() {
      public void onNext(io.etcd.jetcd.election.LeaderResponse response) {
        seen.add(response.getKv().getValue().toString());
      }

      public void onError(Throwable error) {
        seen.add(error.getClass().getSimpleName() + ": " + error.getMessage());
      }

      public void onCompleted() {
        seen.add("completed");
      }
    });
    LeaderKey first = await(election.campaign(name, one, bytes("one"))).getLeader();
    say("elected", first.getName(), first.getLease() == one, next(seen, "a leader"));
    await(election.proclaim(first, bytes("one, again")));
    say("proclaimed", await(election.leader(name)).getKv().getValue(), next(seen, "a leader"));
    var waiting = election.campaign(name, two, bytes("two"));
    until("two", () -> await(client.getKVClient().get(bytes("boss/"), GetOption.builder().isPrefix(true).build())).getCount() == 2);
    say("the second waits", waiting.isDone());
    await(election.resign(first));
    LeaderKey second = await(waiting).getLeader();
    say("then", second.getLease() == two, next(seen, "a leader"), failure(() -> election.proclaim(first, bytes("x"))));
    await(lease.revoke(two));
    say("gone with its lease", failure(() -> election.leader(name)), failure(() -> election.resign(second)));
    say("unknown lease", failure(() -> election.campaign(name, 4711, bytes("x"))));
  }

  static void maintenance(Client client) throws Exception {
    var maintenance = client.getMaintenanceClient();
    await(client.getKVClient().put(bytes("m"), bytes("1")));
    var status = maintenance.statusMember(endpoint).get();
    say("status", status.getVersion().startsWith("3."), status.getDbSize() > 0, status.getLeader() == status.getHeader().getMemberId(), status.getRaftTerm() > 0);
    say("alarms", await(maintenance.listAlarms()).getAlarms());
    await(maintenance.defragmentMember(endpoint));
    long hash = await(maintenance.hashKV(endpoint, 0)).getHash();
    say("hash", hash != 0, await(maintenance.hashKV(endpoint, 0)).getHash() == hash, failure(() -> maintenance.hashKV(endpoint, 1_000_000)));
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    say("snapshot", await(maintenance.snapshot(out)) == out.size(), out.size() % 512);
    var members = await(client.getClusterClient().listMember()).getMembers();
    say("members", members.size(), members.get(0).getName(), members.get(0).getClientURIs().get(0).equals(URI.create(endpoint)), members.get(0).isLearner());
  }

  static void accounts(Client client) throws Exception {
    var auth = client.getAuthClient();
    ByteSequence root = bytes("root"), pw = bytes("pw"), ann = bytes("ann"), secret = bytes("secret"), reader = bytes("reader");
    say("without root", failure(auth::authEnable));
    await(auth.userAdd(root, pw));
    await(auth.roleAdd(root));
    await(auth.userGrantRole(root, root));
    await(auth.userAdd(ann, secret));
    await(auth.roleAdd(reader));
    await(auth.roleGrantPermission(reader, bytes("k"), bytes("l"), Permission.Type.READ));
    await(auth.roleGrantPermission(reader, bytes("w"), bytes(""), Permission.Type.READWRITE));
    await(auth.userGrantRole(ann, reader));
    say("twice", failure(() -> auth.userAdd(ann, secret)), failure(() -> auth.roleAdd(reader)));
    say("users", await(auth.userList()).getUsers(), await(auth.userGet(ann)).getRoles());
    say("roles", await(auth.roleList()).getRoles(), await(auth.roleGet(reader)).getPermissions().stream()
        .map(one -> one.getPermType() + " " + one.getKey() + " " + one.getRangeEnd()).collect(Collectors.toList()));
    await(client.getKVClient().put(bytes("k1"), bytes("1")));
    await(auth.authEnable());
    Client as_root = builder().user(root).password(pw).build();
    Client as_ann = builder().user(ann).password(secret).build();
    Client wrong = builder().user(ann).password(pw).build();
    say("nobody", failure(() -> client.getKVClient().get(bytes("k1"))));
    say("wrong", failure(() -> wrong.getKVClient().get(bytes("k1"))));
    var kv = as_ann.getKVClient();
    say("ann", names(await(kv.get(bytes("k1"))).getKvs()), failure(() -> kv.put(bytes("k1"), bytes("2"))), failure(() -> kv.put(bytes("w"), bytes("2"))),
        failure(() -> kv.get(bytes("a"))), failure(() -> kv.get(bytes("k"), GetOption.builder().withRange(bytes("m")).build())));
    say("ann may not", failure(() -> as_ann.getAuthClient().userList()), failure(() -> as_ann.getAuthClient().authDisable()));
    BlockingQueue<String> events = new LinkedBlockingQueue<>();
    Watch.Watcher watcher = as_ann.getWatchClient().watch(bytes("k"), WatchOption.builder().isPrefix(true).build(),
        Watch.listener(response -> response.getEvents().forEach(event -> events.add(event(event))), error -> events.add(error.getMessage())));
    // The watch may start after the put.
    until("an event", () -> {
      await(as_root.getKVClient().put(bytes("k2"), bytes("2")));
      return !events.isEmpty();
    });
    watcher.close();
    await(as_root.getAuthClient().roleRevokePermission(reader, bytes("k"), bytes("l")));
    say("revoked", failure(() -> kv.get(bytes("k1"))));
    await(as_root.getAuthClient().userChangePassword(ann, pw));
    await(as_root.getAuthClient().userRevokeRole(ann, reader));
    await(as_root.getAuthClient().roleDelete(reader));
    await(as_root.getAuthClient().userDelete(ann));
    say("gone", await(as_root.getAuthClient().userList()).getUsers(), await(as_root.getAuthClient().roleList()).getRoles());
    await(as_root.getAuthClient().authDisable());
    say("off", names(await(client.getKVClient().get(bytes("k1"))).getKvs()));
    await(auth.userDelete(root));
    as_root.close();
    as_ann.close();
    wrong.close();
  }

  public static void main(String[] arguments) throws Exception {
    endpoint = (System.getenv("TLS_DIRECTORY") == null ? "http" : "https") + "://127.0.0.1:" + arguments[0];
    Client client = builder().connectTimeout(Duration.ofSeconds(PATIENCE_S)).build();
    for (int i = 1; i < arguments.length; i++) {
      say("#", arguments[i]);
      switch (arguments[i]) {
        case "single_keys" -> single_keys(client);
        case "ranges" -> ranges(client);
        case "transactions" -> transactions(client);
        case "watches" -> watches(client);
        case "leases" -> leases(client);
        case "locks" -> locks(client);
        case "elections" -> elections(client);
        case "maintenance" -> maintenance(client);
        case "accounts" -> accounts(client);
        default -> throw new IllegalArgumentException(arguments[i]);
      }
    }
    say("## the end");
    System.exit(0);
  }
}
