-- Which half hours of a day have another consumption now than at a moment? The moment is UTC.
SELECT
  now.interval_start, known.consumption_kwh AS known_kwh, now.consumption_kwh,
  now.consumption_kwh - coalesce(known.consumption_kwh, 0) AS more_kwh
FROM gold.half_hourly_consumption AS now
LEFT JOIN gold.half_hourly_consumption_as_of(TIMESTAMP '2021-01-04 09:00:00') AS known
  ON known.interval_start_utc = now.interval_start_utc
WHERE now.date = DATE '2021-01-01' AND now.consumption_kwh <> coalesce(known.consumption_kwh, 0)
ORDER BY now.interval_start_utc;
