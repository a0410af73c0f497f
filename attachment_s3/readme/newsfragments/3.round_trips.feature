A content of up to 2 MiB goes to the object store in one round trip (without `Expect: 100-continue`).
