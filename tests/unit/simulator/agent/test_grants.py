"""A grant's container must have its NIC until something ends that."""

from dataclasses import replace

import pytest

from simulator.agent.grants import Grant
from simulator.model import Attachment

GRANT = Grant(Attachment("podnet", "c1", "eth0"), "default/web-0", "/n/c1", "02:00:00:00:00:07", ("10.88.0.2/24",))


def test_grant_is_live_from_the_start_and_while_a_newer_add_is_under_way():
    assert GRANT.live
    assert replace(GRANT, challenged=True).live


@pytest.mark.parametrize("end", ["superseded", "netns_deleted", "ending"])
def test_grant_is_live_no_more_when_another_has_the_pod_or_its_namespace_or_a_del_has_begun(end: str):
    assert not replace(GRANT, **{end: True}).live
