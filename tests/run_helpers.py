"""What tests of runs read out of their folders."""


def kinds(run):
    """Kinds of its events, but for snapshots."""
    return [event["event"] for event in run.events()[0] if event["event"] != "snapshot"]


def parts(run):
    """{first frame: bytes} of its parts."""
    return {first: path.read_bytes() for first, path in run.parts()}
