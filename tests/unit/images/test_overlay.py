"""Mount options of overlays."""

from podling.images import overlay


def test_writable_and_readonly_options() -> None:
    assert (
        overlay.options(["l/b", "l/a"], "u", "w", ["index=off", "volatile"])
        == "lowerdir=l/b:l/a,upperdir=u,workdir=w,index=off,volatile"
    )
    assert overlay.options(["l/b", "l/a"], tuning=["index=off", "volatile"]) == "lowerdir=l/b:l/a,index=off"
