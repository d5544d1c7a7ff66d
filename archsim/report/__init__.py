"""What people look at: terminal tables, HTML reports, timelines."""
