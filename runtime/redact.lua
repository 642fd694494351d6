--- Takes secrets and e-mail addresses out of a text that leaves for a model.
---
---   redact.text('{"url":"ecto://shop:hunter2@db1/shop"}')
---     -- {"url":"ecto://shop:[redacted:password]@db1/shop"}
---
--- What is taken out: PEM blocks, JSON web tokens, keys whose form says what they are, values of
--- HTTP's Authorization, passwords in addresses, what stands after words such as password, secret
--- or token, and e-mail addresses. What stays: figures, pids, modules and functions, and names of
--- nodes. Texts are mostly JSON, in which escapes stay whole.
---
--- One pass of LPeg goes over the text, and one from @ to @; neither looks back or ahead without a
--- bound, so that the time grows with the length, whatever the text is. A second pass over what
--- came out changes nothing.

local emails = require("runtime.redact.emails")
local secrets = require("runtime.redact.secrets")

local M = {}

--- Takes secrets and addresses out of a text.
---@param text string
---@param opts? { node?: string } The watched node, whose long name may look like an address.
---@return string
function M.text(text, opts)
  return emails.replace(secrets.replace(text), opts and opts.node)
end

return M
