-- A date on which nobody was read, between two on which somebody was, has a row, too.

-- One row: a local date from the first to the last one with readings.
CREATE OR REPLACE VIEW gold.daily_completeness (
  date COMMENT 'Local date, each from the first to the last one with readings',
  meterpoint_count COMMENT 'Meterpoints with an agreement or a reading on the date',
  complete_meterpoints COMMENT 'Those of them with a reading of every half hour',
  silent_meterpoints COMMENT 'Those of them without any reading',
  expected_readings COMMENT 'Half hours of the date (48, in March 46, in October 50) times meterpoint_count',
  received_readings COMMENT 'Half hours with a reading, of all of them; 0 on a date on which nobody was read',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null where nobody had an agreement or was read'
) COMMENT 'How complete the readings are, one row per date' AS
WITH unread AS (
  SELECT days.date
  FROM (SELECT explode(sequence(min(date), max(date))) AS date FROM mart.daily_completeness) AS days
  LEFT ANTI JOIN mart.daily_completeness AS seen ON seen.date = days.date
),
agreed AS (
  SELECT
    unread.date, count(DISTINCT agreement.meterpoint_id) AS meterpoints,
    -- The clock changes on the last Sundays of March and October.
    CASE unread.date
      WHEN next_day(make_date(year(unread.date), 3, 24), 'SUN') THEN 46
      WHEN next_day(make_date(year(unread.date), 10, 24), 'SUN') THEN 50
      ELSE 48
    END AS half_hours
  FROM unread
  LEFT JOIN silver.agreement
    ON agreement.agreement_valid_from <= unread.date
    AND (agreement.agreement_valid_to IS NULL OR unread.date < agreement.agreement_valid_to)
  GROUP BY unread.date
)
SELECT
  date, meterpoint_count, complete_meterpoints, silent_meterpoints, expected_readings, received_readings,
  CAST(received_readings / expected_readings AS DECIMAL(9,6)) AS received_share
FROM mart.daily_completeness
UNION ALL
SELECT
  date, meterpoints, 0L, meterpoints, meterpoints * half_hours, 0L, if(meterpoints > 0, CAST(0 AS DECIMAL(9,6)), NULL)
FROM agreed;
