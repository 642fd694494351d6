--- The first Lua to run: makes globals strict and hands the command line over.
--- Returns a function from the argument list (`[0]` is the program) to the exit status.

require("runtime.strict").lock()

return function(argv)
  return require("runtime.cli").main(argv)
end
