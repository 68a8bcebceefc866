"""Hide secrets and personal data before anything is written: find, replace by typed placeholders, scan again."""
