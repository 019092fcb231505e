"""What each reason of a rejection, and each oddity, means in a few words, and what to do.

docs/rules.md has the rules themselves.
"""

from typing import NamedTuple


class Advice(NamedTuple):
    """For a person who sees the name of the reason and nothing else."""

    meaning: str
    action: str


UNKNOWN = Advice("", "Look it up in docs/rules.md.")

ADVICE = {
    # Files
    "unreadable": Advice("file cannot be opened", "Give access, or deliver the file again."),
    "outside_landing": Advice("link that leads out of the landing place", "Deliver the file itself."),
    "not_gzip": Advice("ends in .gz and is no gzip file", "Deliver it again, whole."),
    "too_large": Advice("larger than a file may be", "Deliver it in parts; of a database tables, not views."),
    "empty_file": Advice("nothing in the file", "Ask the sender whether there is anything to send."),
    "not_json": Advice("no JSON, or cut off", "Deliver it again, whole."),
    "key_twice": Advice("columns or data given twice", "Deliver the parts as files of their own."),
    "not_an_object": Advice("JSON of another form", "Have the export corrected."),
    "columns_missing": Advice("no list of columns", "Have the export corrected."),
    "data_missing": Advice("no list of rows", "Have the export corrected."),
    "column_missing": Advice("a column is missing, or has another name", "Have the name corrected in the export."),
    "columns_not_distinct_names": Advice("two columns of one name", "Have the export corrected."),
    "columns_differ": Advice("lines with different columns", "Deliver them as files of their own."),
    # Rows of readings
    "wrong_length": Advice("more or fewer values than columns", "Have the export corrected."),
    "meterpoint_id_not_text": Advice("id is not text", "Export ids as text, with their leading zeros."),
    "meterpoint_id_empty": Advice("no id", "Find out which meter it is."),
    "meterpoint_id_too_long": Advice("id of more than 256 characters", "Have the export corrected."),
    "meterpoint_id_padded_or_invisible": Advice("id with blanks or unseen characters", "Have the export corrected."),
    "meterpoint_id_spreadsheet_number": Advice("id that a spreadsheet made a number", "Export it as text."),
    "interval_start_not_a_timestamp": Advice("no local time", "Have the export corrected."),
    "interval_start_out_of_range": Advice("before 2000 or after 2099", "Have the meter's clock set."),
    "interval_start_does_not_exist": Advice(
        "in the hour that March skips", "The export does not use local time: look at the whole summer."
    ),
    "interval_start_after_file": Advice(
        "later than its file", "Have the meter's clock set, or touch a file that was copied with an old time."
    ),
    "consumption_null": Advice("no value", "Nothing, if the meter was not read."),
    "consumption_not_a_number": Advice("value is no number", "Have the export corrected."),
    "consumption_not_finite": Advice("value is infinite", "Have the export corrected: mostly a division by zero."),
    "consumption_negative": Advice("less than 0 kWh", "Keep exports to the grid out of this file."),
    "conflicting_readings": Advice(
        "several values for one half hour", "Ask which one is right, and deliver the file with it alone."
    ),
    "duplicate_reading": Advice("the same reading again", "Nothing; if there are many, look at the export."),
    "day_held_quarter_hours": Advice("day of quarter hours", "Deliver sums of half hours."),
    "day_held_minutes": Advice("day of minutes", "Deliver sums of half hours."),
    "day_held_off_grid": Advice(
        "day with a time off the half hour", "Have the export, or the meter's clock, set right."
    ),
    "day_held_register": Advice("day of a meter's register", "Deliver differences."),
    "day_held_watt_hours": Advice("day that looks like watt-hours", "Deliver kWh."),
    "day_held_absurd": Advice(
        "day with a value above 100 kWh", "Look at the meter; deliver the day without the value."
    ),
    # Reference files
    "in_use": Advice("database that is being written", "Deliver a finished copy, by VACUUM INTO or .backup."),
    "modified_in_future": Advice("file's time is in the future", "touch the file."),
    "older_than_shown": Advice("a newer snapshot is shown", "If that one is wrong, roll its load back."),
    "not_sqlite": Advice("no SQLite file, or damaged", "Deliver a copy, by VACUUM INTO or .backup."),
    "takes_too_long": Advice("more than ten minutes to read", "Deliver tables, not views."),
    "table_missing": Advice("a table is missing", "Have the export corrected."),
    "expectation_failed": Advice("broke a critical expectation", "The load's checks say which: correct the file."),
    # Rows of reference files
    "null_value": Advice("empty where a value must be", "Correct the row."),
    "wrong_type": Advice("value of another kind", "Correct the row."),
    "bad_id": Advice("id with unseen characters", "Correct the row."),
    "duplicate_key": Advice("one key in several rows", "Remove the rows that are wrong."),
    "unknown_product": Advice("agreement on a product that is not there", "Add the product, or correct the agreement."),
    "unknown_meterpoint": Advice(
        "agreement of a meterpoint that is not there", "Add the meterpoint, or correct the agreement."
    ),
    # Rows that are not kept
    "erased": Advice("an id that was erased", "Ask the sender to leave it out."),
    # Oddities of files that were loaded
    "repeated_hour_not_told": Advice("October's repeated hour is not told apart", "Deliver rows in the order of time."),
    "hourly_values": Advice("days with values on the hour alone", "Ask whether half is missing, or these are sums."),
    "rising_values": Advice("days whose values never fall", "Ask whether it is a register."),
    "whole_numbers": Advice("days of large whole numbers", "Ask whether these are watt-hours."),
    "date_not_kept": Advice("readings of dates that are kept no longer", "Nothing: LAKE_KEEP_READINGS_MONTHS says so."),
    "stamps_at_interval_end": Advice("times that may be ends of half hours", "Ask the sender: starts are meant."),
}


def advice(reason: str) -> Advice:
    return ADVICE.get(reason, UNKNOWN)
