"""Which region a meterpoint has on a date, by looking at every snapshot."""

from datetime import date

# In the order in which they came: date, and region by meterpoint.
Snapshots = list[tuple[date, dict[str, str | None]]]


def region_on(snapshots: Snapshots, meterpoint_id: str, day: date) -> str | None:
    """That of the last snapshot until the date which names one, or else of the first one that does."""
    last_of_date = dict(snapshots)
    said = {at: region for at, of in last_of_date.items() if (region := (of.get(meterpoint_id) or "").strip())}
    until = [at for at in said if at <= day]
    return said[max(until)] if until else said[min(said)] if said else None
