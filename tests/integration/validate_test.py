"""Two judges of histories: cairn_check_history, and etcd's own validate with Porcupine (tests/oracles/validate37). Random
histories of a correct cluster are right for both, as are those of simulated clusters in trouble (sim/cluster), and a lie in
one is found by both. Where the two disagree the file stays, and its command is printed."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
RIGHT, WRONG, NO_PLACE = 0, 1, 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checker", default=ROOT / "build/dev/sim/history/cairn_check_history")
    parser.add_argument("--oracles", default=ROOT / "build/oracles", type=pathlib.Path)
    parser.add_argument("--sim", default=ROOT / "build/dev/sim/cairn_sim")
    parser.add_argument("--clusters", type=int, default=3, help="histories of simulated clusters")
    parser.add_argument("--right", type=int, default=100, help="histories without a lie")
    parser.add_argument("--lies", type=int, default=5, help="histories with each lie")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    etcd = options.oracles / "validate37"
    if not etcd.exists():
        print("SKIPPED: validate37 is not here: tests/oracles/build validate37")
        return SKIPPED

    folder = tempfile.mkdtemp(prefix="histories-")
    expected = {}  # path -> whether it is right

    def write(seed, *lie):
        command = [str(options.checker), "--generate", str(seed), "--operations", "80", *lie]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode == NO_PLACE:
            return False
        assert done.returncode == 0, command
        path = f"{folder}/{seed}{'-' + lie[1].replace(' ', '_') if lie else ''}.jsonl"
        pathlib.Path(path).write_bytes(done.stdout)
        expected[path] = not lie
        return True

    for seed in range(options.seed, options.seed + options.right):
        write(seed)
    clusters = pathlib.Path(folder, "clusters")
    clusters.mkdir()
    for seed in range(100, 100 + 100 * options.clusters, 100):  # whose clients ask only what etcd's model knows
        subprocess.run([options.sim, "--cluster", "--seed", str(seed), "--history", clusters], stdout=subprocess.DEVNULL,
                       check=True)
        expected[f"{clusters}/{seed}.jsonl"] = True
    lies = subprocess.run([options.checker, "--lies"], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    assert lies
    for lie in lies:
        found = 0
        for seed in range(options.seed, options.seed + 500):
            found += write(seed, "--lie", lie)
            if found == options.lies:
                break
        assert found == options.lies, f"{lie} fits {found} histories"

    failures = 0
    for name, judge in (("cairn_check_history", options.checker), ("etcd's validate", etcd)):
        # It prints what two lists differ in to the same output: only lines of verdicts count.
        output = subprocess.run([judge, *expected], stdout=subprocess.PIPE, check=False, text=True).stdout
        verdicts = {}
        for line in output.splitlines():
            path, _, rest = line.partition(": ")
            if path in expected and rest.startswith(("right", "WRONG")):
                verdicts[path] = rest
        for path, is_right in expected.items():
            verdict = verdicts.get(path, "no verdict")
            if verdict.startswith("right") != is_right or verdict == "no verdict":
                failures += 1
                print(f"{name}: {path} should be {'right' if is_right else 'wrong'}: {verdict}")
    if failures:
        print(f"{failures} wrong verdicts; the histories are in {folder}")
        return WRONG
    for path in expected:
        pathlib.Path(path).unlink()
    clusters.rmdir()
    pathlib.Path(folder).rmdir()
    print(f"{sum(expected.values())} right histories and {len(expected) - sum(expected.values())} with one of {len(lies)} lies:"
          " both judges agree")
    return RIGHT


if __name__ == "__main__":
    sys.exit(main())
