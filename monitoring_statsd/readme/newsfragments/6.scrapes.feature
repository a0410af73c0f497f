Scrapes of `/metrics` leave no line in the access log unless they are refused.
