"""What one member has acknowledged is there for every request that follows, through whichever member."""

from itertools import cycle

from tests.harness.daemons import Cluster


def test_what_was_made_through_one_member_is_changed_and_deleted_through_another_at_once(cluster: Cluster) -> None:
    leader = cluster.leader()
    followers = cycle(member for member in cluster.members if member is not leader)
    for number in range(60):
        path = f"/1.0/profiles/p{number}"
        leader.post("/1.0/profiles", {"name": f"p{number}"})
        next(followers).post(path, {"name": f"q{number}"})
        next(followers).delete(f"/1.0/profiles/q{number}")
        leader.post("/1.0/profiles", {"name": f"p{number}"})
        next(followers).delete(path)
        assert path not in leader.get("/1.0/profiles")
