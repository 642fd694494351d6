--- The releases of Erlang/OTP whose nodes the specs run against.
---
--- Others are watched all the same, but nobody has compared their figures with what the node itself
--- computes: that is said once per node.

local M = {}

--- As `erlang:system_info(otp_release)` has them. The README names the same; `make test` runs the
--- specs with the one that is installed, `make test-otp` with the last.
M.TESTED = { "25", "27" }

--- Whether a release is among those tested.
---@param release? string
---@return boolean? tested nil where the release is not known.
function M.is_tested(release)
  if not release then
    return nil
  end
  for _, tested in ipairs(M.TESTED) do
    if tested == release then
      return true
    end
  end
  return false
end

--- One line for people about a release that is not among those tested.
---@param node string
---@param release string
---@return string
function M.untested_line(node, release)
  return ("OTP %s of %s is not among the releases tested (%s)"):format(release, node,
    table.concat(M.TESTED, ", "))
end

return M
