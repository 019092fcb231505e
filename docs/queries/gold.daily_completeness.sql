-- Which share of the expected half hours came in a month?
SELECT sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.daily_completeness
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31';

-- Which days are not complete, the worst first?
SELECT date, received_share, meterpoint_count, complete_meterpoints, silent_meterpoints
FROM gold.daily_completeness
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' AND received_share < 1
ORDER BY received_share;

-- Is a low day a day of little use, or one of missing readings?
SELECT date, sum(consumption_kwh) AS consumption_kwh, any_value(daily_completeness.received_share) AS received_share
FROM gold.half_hourly_consumption
JOIN gold.daily_completeness USING (date)
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY date
ORDER BY date;
