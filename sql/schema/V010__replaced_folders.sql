-- Which folder a switch took the place of: what can be deleted is found from records, without listing the warehouse.
ALTER TABLE ops.publications ADD COLUMNS (replaced_folder STRING COMMENT 'Folder that the partition named before, null if it is new or the load is of an older version');
