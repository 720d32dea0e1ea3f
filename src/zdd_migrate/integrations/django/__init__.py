"""Django: migrations read as the SQL that `manage.py sqlmigrate` gives."""
