--- The first Lua to run: makes globals strict and hands the command line over.
--- Returns a function from the argument list (`[0]` is the program) to the exit status.

-- Nothing is loaded because it lies in the folder that we happen to run in.
package.path = package.path:gsub("%./%?%.lua;?", "")
package.cpath = package.cpath:gsub("%./%?%.so;?", "")

require("runtime.strict").lock()

return function(argv)
  return require("runtime.cli").main(argv)
end
