-- How did consumption run through a day?
SELECT interval_start, meterpoint_count, consumption_kwh
FROM gold.half_hourly_consumption
WHERE date = DATE '2021-01-01'
ORDER BY interval_start_utc;

-- In which half hour was the peak of each day? The mean of a half hour in kW is twice its kWh.
SELECT date, max_by(interval_start, consumption_kwh) AS peak_start, 2 * max(consumption_kwh) AS peak_kw
FROM gold.half_hourly_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY date
ORDER BY date;

-- What does a meterpoint use on average at each time of day, on working days and at weekends?
SELECT
  date_format(interval_start, 'HH:mm') AS clock, if(weekday(date) < 5, 'Monday to Friday', 'weekend') AS days,
  sum(consumption_kwh) / sum(meterpoint_count) AS average_kwh
FROM gold.half_hourly_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY ALL
ORDER BY days, clock;
