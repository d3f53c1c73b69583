"""Published methods, each one function in one file; `selftaught.method.methods` finds them."""
