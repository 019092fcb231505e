-- How much energy did each product use?
SELECT month, product_display_name, sum(consumption_kwh) AS consumption_kwh
FROM gold.monthly_consumption
GROUP BY month, product_display_name
ORDER BY month, consumption_kwh DESC;

-- What did a meterpoint use on an average day?
SELECT month, sum(consumption_kwh) / nullif(sum(meterpoint_days), 0) AS kwh_a_meterpoint_and_day
FROM gold.monthly_consumption
GROUP BY month
ORDER BY month;

-- Are all days loaded, and are they complete? Fewer days, or a lower share, make a lower sum.
SELECT month, max(day_count) AS days, sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.monthly_consumption
GROUP BY month
ORDER BY month;
