-- Which dates changed after they were first loaded, and by how much energy?
SELECT date, restated_at, kind, meterpoint_count, kwh_before, kwh_after, kwh_after - kwh_before AS more_kwh
FROM gold.restatements
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
ORDER BY date, restated_at;

-- What changed since the report of Monday morning? UTC.
SELECT date, load_id, kind, readings_added, readings_changed, readings_removed
FROM gold.restatements
WHERE restated_at >= TIMESTAMP '2021-01-04 09:00:00'
ORDER BY restated_at;

-- How often was each date restated?
SELECT date, count(*) AS restatements, sum(readings_changed) AS readings_changed
FROM gold.restatements
GROUP BY date
ORDER BY restatements DESC;
