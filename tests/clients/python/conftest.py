"""Lets the etcd3 package's own tests run against one server at any port: they mean 127.0.0.1:2379 in places.

SHARE=1/3 runs the second third of them: they sleep most of the time, and each third has a server of its own.
"""

import functools
import os
import urllib.parse

import etcd3
import hypothesis

url = urllib.parse.urlparse(os.environ["PYTHON_ETCD_HTTP_URL"])
etcd3.client = functools.partial(etcd3.client, host=url.hostname, port=url.port)

# They need a cluster of three whose processes have certain names, or an older mock.
NOT_HERE = ("test_get_key_serializable", "test_get_prefix_serializable", "test_member_list", "test_user_pwd_auth")
# They fail by chance on a slow machine: something must be done before a lease of two or three seconds ends.
IN_A_HURRY = ("test_lease_single_key", "test_lease_expire", "test_lock_refresh", "test_lock_is_acquired",
              "test_lock_context_manager", "test_lock_contended")

# Each example of theirs starts etcdctl two or three times.
FEW = hypothesis.settings(deadline=None, max_examples=5, derandomize=True, database=None,
                          suppress_health_check=list(hypothesis.HealthCheck))


def pytest_collection_modifyitems(items):
    share, of = map(int, os.environ["SHARE"].split("/"))
    items[:] = [item for item in items if item.originalname not in NOT_HERE + IN_A_HURRY][share::of]
    for item in items:
        if hypothesis.is_hypothesis_test(item.obj):
            item.obj.__func__._hypothesis_internal_use_settings = FEW
