"""Turns the figures of bench/run.py into a Markdown table."""

import math

import servers

TITLES = {
    "empty": "empty server: start, resident, idle over 10 s",
    "every_flag": "start with every flag of etcd 3.7.1 at once, to the first get; the next start",
    "put": "put, one key",
    "get": "linearizable get, one key",
    "get_serializable": "serializable get, one key",
    "txn_put": "txn: compare, put",
    "txn_get": "txn: compare, get",
    "json_put": "put, one key, as JSON over HTTP/1.1, 200 connections",
    "json_get": "linearizable get, one key, as JSON over HTTP/1.1, 200 connections",
    "one_put": "one client, one put at a time",
    "one_get": "one client, one linearizable get at a time",
    "tls_put": "put, one key, over TLS",
    "tls_get": "linearizable get, one key, over TLS",
    "tls_list": "list of 10,000 keys x 1000 bytes over TLS",
    "tls_json_put": "put, one key, as JSON over HTTP/1.1 and TLS, 200 connections",
    "tls_json_get": "linearizable get, one key, as JSON over HTTP/1.1 and TLS, 200 connections",
    "tls_handshakes": "new connections with TLS 1.3 (RSA 2048) and one request each, 20 at a time",
    "tls_resumed": "the same by clients that offer an older session",
    "tls_storm": "linearizable gets over TLS at a steady rate while others connect, 20 at a time",
    "watch_1k": "1,000 watchers of one key",
    "watch_10k": "10,000 watchers of one key",
    "watch_keys": "10,000 watchers, a key each",
    "watch_100k": "100,000 watchers of a key each, on 1,000 connections",
    "watch_prefix": "10 watchers of a prefix with prev_kv, 500 puts a second",
    "auth_put": "put, one key, by a user with a simple token",
    "auth_get": "linearizable get, one key, by a user with a simple token",
    "jwt_put": "put, one key, by a user with a JWT (RS256)",
    "jwt_get": "linearizable get, one key, by a user with a JWT (RS256)",
    "load": "load of {keys} distinct keys x 256 bytes, random order",
    "disk_at_rest": "data directory ten seconds later",
    "get_many": "linearizable get of random keys out of {keys}",
    "get_many_serializable": "serializable get of random keys out of {keys}",
    "range_limited": "limited range: 1000 out of {keys}",
    "count": "count of {keys} keys",
    "list": "list of all {keys} keys",
    "pages": "the same in pages of 10,000 at one revision",
    "restart_clean": "restart with {keys} keys, clean, to the first get",
    "restart_killed_idle": "restart after kill -9 when idle",
    "restart_killed_busy": "restart after kill -9 under put load",
    "compact": "compaction of {keys} revisions under put load",
    "lease_grant": "grant of {leases} leases",
    "lease_keepalive": "renewal of random leases out of {leases}",
    "lease_put": "put of a key for each of {leases} leases",
    "lease_restart": "restart with {leases} leases, clean, to the first get",
    "lease_expire": "{leases} leases with a key each end at once, under put load",
    "defragment": "defragmentation of a db that is half empty, under put load",
    "three_idle": "three members: idle over 10 s",
    "three_put": "three members: put at the leader",
    "three_one_put": "three members: one client, one put at a time",
    "three_put_follower": "three members: put through a follower",
    "three_get": "three members: linearizable get at the leader",
    "three_get_follower": "three members: linearizable get at a follower",
    "three_catch_up": "three members: one comes back after {catch_up_writes} writes, under put load",
    "three_catch_up_snapshot": "the same where the others' logs are short: by snapshot",
    "one_slow_of_3": "three members: puts at the leader at a steady rate, one disk at 50 writes a second",
    "one_slow_of_5": "five members: the same",
    "one_slow_of_7": "seven members: the same",
    "three_stalled_leader": "three members: puts through a follower, the leader's disk stands still for 5 s",
    "overwrites": "keys overwritten at a steady rate, with compactions: the db's length",
}

# What is divided for the last columns: cost or time of the others over the first server's. More is better for ops_per_s.
RATIOS = {
    "events_per_s": "events", "event_p50_us": "p50", "watchers_mb": "memory", "ops_per_s": "throughput", "cpu_us": "CPU", "p50_us": "p50", "p99_us": "p99", "ms": "time", "cpu_ms": "CPU",
    "start_ms": "start", "restart_ms": "restart", "anon_mb": "anon", "disk_mb": "disk", "after_mb": "db", "mean_mb": "db",
}


def percentile(buckets, share):
    """The value that `share` of all values do not exceed; buckets are (value, count), sorted."""
    left = math.ceil(share * sum(count for _, count in buckets))
    for value, count in buckets:
        left -= count
        if left <= 0:
            return value
    return 0


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def microseconds(value):
    return f"{number(value)} us" if value < 1000 else f"{number(value / 1000)} ms"


def milliseconds(value):
    return f"{number(value)} ms" if value < 1000 else f"{number(value / 1000)} s"


def cell(row, figures, generator_share_max):
    """One server's figures in a row, as text."""
    if "failed" in figures:
        return "failed"
    out = []
    if "ops_per_s" in figures:
        if row.startswith("one_") or row == "three_one_put":
            out.append(f"p50 {microseconds(figures['p50_us'])}, p99 {microseconds(figures['p99_us'])}")
            out.append(f"{number(figures['cpu_us'])} us CPU")
        elif row in ("tls_handshakes", "tls_resumed"):
            out.append(f"{number(figures['ops_per_s'])} /s, {number(figures['cpu_us'])} us CPU, "
                       f"p50 {microseconds(figures['p50_us'])}, p99 {microseconds(figures['p99_us'])}")
            if row == "tls_resumed":
                out.append(f"{figures['resumed'] * 100:.0f} % resumed")
        else:
            out.append(f"{number(figures['ops_per_s'] / 1000)} k/s, {number(figures['cpu_us'])} us CPU, "
                       f"p99 {microseconds(figures['p99_us'])}")
    if "events_per_s" in figures:
        out.append(f"{number(figures['events_per_s'] / 1000)} k events/s, {number(figures['cpu_us'])} us CPU an event, "
                   f"p50 {microseconds(figures['event_p50_us'])}, {number(figures['watchers_mb'])} MB for the watchers, "
                   f"put p50 {microseconds(figures['put_p50_us'])}")
    if "ms" in figures:
        out.append(f"{milliseconds(figures['ms'])}, {milliseconds(figures['cpu_ms'])} CPU")
    if "start_ms" in figures:
        out.append(milliseconds(figures["start_ms"]))
    if "restart_ms" in figures:
        out.append(f"then {milliseconds(figures['restart_ms'])}")
    if "more_mb" in figures:
        usual = f" ({number(figures['usual_mb'])} for the same writes with all there)" if "usual_mb" in figures else ""
        out.append(f"{number(figures['more_mb'])} MB more{usual}")
    if "anon_mb" in figures:
        out.append(f"{number(figures['anon_mb'])} MB anon + {number(figures['file_mb'])} MB file")
    if "disk_mb" in figures:
        out.append(f"{number(figures['disk_mb'])} MB on disk (db {number(figures['db_mb'])}, "
                   f"wal {number(figures['wal_mb'])})")
    if "idle_cpu_percent" in figures:
        out.append(f"{figures['idle_cpu_percent']:.2f} % of a core, {number(figures['idle_written_kb'])} KB written")
    if "idle_sent_kb_per_s" in figures:
        out.append(f"{number(figures['idle_sent_kb_per_s'])} KB/s sent")
    if "caught_up_per_s" in figures:
        out.append(f"{number(figures['caught_up_per_s'] / 1000)} k entries/s (written at "
                   f"{number(figures['away_per_s'] / 1000)} k/s)")
    if "storm_per_s" in figures:
        out.append(f"get p50 {microseconds(figures['p50_us'])}, p99 {microseconds(figures['p99_us'])}, max "
                   f"{microseconds(figures['max_us'])} (before: p50 {microseconds(figures['calm_p50_us'])}, p99 "
                   f"{microseconds(figures['calm_p99_us'])}), beside {number(figures['storm_per_s'])} connections a second")
    elif "calm_p99_us" in figures:
        out.append(f"put p99 {microseconds(figures['p99_us'])}, max {microseconds(figures['max_us'])} "
                   f"(before: p99 {microseconds(figures['calm_p99_us'])})")
    if "led_p99_us" in figures:
        out.append(f"led by the slow one: p50 {microseconds(figures['led_p50_us'])}, p99 {microseconds(figures['led_p99_us'])}")
    if "moved_ms" in figures:
        moved_ms = figures["moved_ms"]
        out.append("the same leads on" if moved_ms is None else f"another leads after {milliseconds(moved_ms)}")
    if "after_mb" in figures:
        out.append(f"db {number(figures['full_mb'])} MB, compacted {number(figures['compacted_mb'])} MB, then "
                   f"{number(figures['after_mb'])} MB")
    if "curve" in figures:
        out.append(f"{figures['overwrites']:,} puts, {figures['compactions']} compactions: db {number(figures['first_mb'])} "
                   f"MB, at most {number(figures['most_mb'])} MB, on average {number(figures['mean_mb'])} MB, at the end "
                   f"{number(figures['end_mb'])} MB; put p99 {microseconds(figures['p99_us'])}, max "
                   f"{microseconds(figures['max_us'])}, {number(figures['cpu_us'])} us CPU")
    if figures.get("failed_puts"):
        out.append(f"{figures['failed_puts']} puts failed")
    if "generator_share" in figures:
        mark = " (!)" if figures["generator_share"] >= generator_share_max else ""
        out.append(f"generator {figures['generator_share'] * 100:.0f} %{mark}")
    return ", ".join(out)


def ratio(base, other):
    """`other` against `base`, for the figures that both have."""
    out = []
    for figure, name in RATIOS.items():
        if base.get(figure) and other.get(figure):
            out.append(f"{name} {number(other[figure] / base[figure])}")
    return ", ".join(out)


def markdown(info, rows, results, generator_share_max):
    kinds = list(results)
    fsync = info["fdatasync_us"]
    lines = [
        f"{info['cores']} cores, {info['memory_gb']} GB, Linux {info['kernel']}; load average before the run "
        f"{info['load_average']:.1f}; fdatasync of 4 KB: "
        + (f"p50 {fsync['p50']} us, p99 {fsync['p99']} us" if fsync else "not measured")
        + ". CPU is the server's, for each request; ratios are other / first.",
        "",
    ]
    head = ["what"] + [servers.TITLES[kind] for kind in kinds]
    head += [f"{servers.TITLES[kind]} / {servers.TITLES[kinds[0]]}" for kind in kinds[1:]]
    lines.append("| " + " | ".join(head) + " |")
    lines.append("|" + " --- |" * len(head))
    for row in TITLES:
        if row not in rows:
            continue
        cells = [TITLES[row].format(keys=f"{info['keys']:,}", leases=f"{info['leases']:,}",
                                     catch_up_writes=f"{info['catch_up_writes']:,}")]
        cells += [cell(row, results[kind].get(row, {"failed": True}), generator_share_max) for kind in kinds]
        cells += [ratio(results[kinds[0]].get(row, {}), results[kind].get(row, {})) for kind in kinds[1:]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
