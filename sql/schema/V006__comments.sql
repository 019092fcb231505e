-- What became true after the tables were made.

ALTER TABLE ops.loads ALTER COLUMN status COMMENT 'published; failed: a critical expectation stopped it, readers keep what they had; rollback: it undid another load, see ops.rollbacks';

ALTER TABLE quarantine.files ALTER COLUMN content COMMENT 'The file''s bytes, whole; null for a readings file over 1 MiB or a reference file over 64 MiB, then only the landing place has it';
