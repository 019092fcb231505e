-- Which unknown meterpoints use most?
SELECT meterpoint_id, consumption_kwh, first_date, last_date
FROM gold.unknown_meterpoints
ORDER BY consumption_kwh DESC
LIMIT 20;

-- How many are there, and how much energy is theirs?
SELECT count(*) AS meterpoints, sum(reading_count) AS readings, sum(consumption_kwh) AS consumption_kwh
FROM gold.unknown_meterpoints;

-- Which of them first came in this month? Old ones are slips in ids, new ones may be registered tomorrow.
SELECT meterpoint_id, first_date, reading_count
FROM gold.unknown_meterpoints
WHERE first_date >= DATE '2021-01-01'
ORDER BY first_date;
