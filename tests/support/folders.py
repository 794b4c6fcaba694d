"""Names of folders that a file system takes, and that a query or a pattern might read as something else.

None has a backslash: DuckDB takes it for the separator of folders, on any system.
"""

from hypothesis import strategies as st

_TRICKY = ("amount=5", "day=2020-01-01", "it's", "a'); DROP TABLE payments; --", "[a-z]*", "**", "~")

NAMES = st.sampled_from(_TRICKY) | st.text("a'\"[]*?{};-% =\n$é花", min_size=1, max_size=12).filter(str.strip)
