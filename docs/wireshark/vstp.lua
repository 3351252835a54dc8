-- A dissector of VSTP for Wireshark and tshark: frames on TCP, inside decrypted TLS, and in
-- UDP datagrams, in the negotiated and in the crate profile. README.md says how to install it.
-- Sections (§) are those of ../PROTOCOL.md.
--
-- It is written for Lua 5.2 to 5.4, so that Wireshark 3.6 and later take it. Whatever the
-- bytes are, nothing here may raise an error: all reading of packets goes through functions
-- that check bounds, and what does not decode becomes expert information.

local vstp = Proto("vstp", "VSTP")

-- ---------------------------------------------------------------------------- tables

local TYPES = { "HELLO", "WELCOME", "DATA", "PING", "PONG", "BYE", "ACK", "ERR" }
local HELLO, WELCOME, DATA, PING, PONG, BYE, ACK, ERR = 1, 2, 3, 4, 5, 6, 7, 8
local REQ_ACK, CRC, FRAG, COMP = 0x01, 0x02, 0x10, 0x20
local SEALED, PHASE = 0x40, 0x80 -- in datagrams, §8.4

local CODES = { -- §5.8
  [0] = "none", "protocol", "version", "too large", "checksum", "header", "unexpected", "refused",
  "timeout", "overload", "compression", "internal", "TLS", "unknown id", "aborted", "alert", "attach",
}

local CHUNKS = { -- §7.5, by the type without the bits that say what else is there
  [0x00] = "PADDING", [0x01] = "PING", [0x02] = "ACK", [0x04] = "RESET_STREAM",
  [0x05] = "STOP_SENDING", [0x06] = "CRYPTO", [0x07] = "HAVE", [0x08] = "STREAM", [0x10] = "MAX_DATA", [0x11] = "MAX_STREAM_DATA",
  [0x12] = "MAX_STREAMS", [0x13] = "MAX_MESSAGES", [0x14] = "DATA_BLOCKED",
  [0x15] = "STREAM_BLOCKED", [0x16] = "MESSAGES_BLOCKED", [0x1a] = "PATH_CHALLENGE",
  [0x1b] = "PATH_RESPONSE", [0x1c] = "CLOSE", [0x1d] = "MOVE", [0x1e] = "HANDSHAKE_DONE", [0x20] = "MESSAGE", [0x24] = "FRAGMENT",
  [0x28] = "CANCEL", [0x2c] = "PARITY",
}
local CHUNK_TYPES = {} -- the same for every value of the byte
for t, name in pairs(CHUNKS) do CHUNK_TYPES[t] = name end
for t = 0x09, 0x0f do CHUNK_TYPES[t] = "STREAM" end
for _, t in ipairs({ 0x20, 0x24, 0x28, 0x2c }) do CHUNK_TYPES[t + 1] = CHUNKS[t] end

local PROFILES = { "negotiated", "crate", "unknown" }
local NEGOTIATED, CRATE, UNKNOWN = 1, 2, 3
local CRC_STATES = { [0] = "bad", "good", "unverified", "none" }
local CRC_BAD, CRC_GOOD, CRC_UNVERIFIED, CRC_NONE = 0, 1, 2, 3
local ALGORITHMS = { [1] = "zstd" }
local CARRIERS = { [0] = "datagrams", "byte stream" } -- §7.14
local MAX_VARINT = UInt64.new(0xffffffff, 0x3fffffff) -- §1
local EXACT = 9007199254740992 -- numbers below are exact in a double

-- ---------------------------------------------------------------------------- fields

local f = {}
local function field(name, kind, label, ...)
  f[name] = ProtoField[kind]("vstp." .. name, label, ...)
end

field("magic", "bytes", "Magic")
field("version", "uint8", "Version")
field("type", "uint8", "Type", base.DEC, TYPES)
field("flags", "uint8", "Flags", base.HEX)
field("flags.phase", "bool", "PHASE, masked", 8, nil, PHASE)
field("flags.sealed", "bool", "SEALED", 8, nil, SEALED)
field("flags.comp", "bool", "COMP", 8, nil, COMP)
field("flags.frag", "bool", "FRAG", 8, nil, FRAG)
field("flags.crc", "bool", "CRC", 8, nil, CRC)
field("flags.req_ack", "bool", "REQ_ACK", 8, nil, REQ_ACK)
field("hdr_len", "uint16", "Header block length")
field("pay_len", "uint32", "Payload length")
field("profile", "uint8", "Profile", base.DEC, PROFILES)
field("payload", "bytes", "Payload")
field("payload.compressed", "bytes", "Compressed payload")
field("sealed", "bytes", "Sealed")
field("text", "string", "Text", base.UNICODE)
field("crc", "uint32", "CRC", base.HEX)
field("crc.status", "uint8", "CRC status", base.DEC, CRC_STATES)
field("crc.computed", "uint32", "CRC computed", base.HEX)

field("header", "none", "Header block")
field("meta", "none", "Metadata")
field("meta.key", "string", "Key", base.UNICODE)
field("meta.value", "string", "Value", base.UNICODE)
field("meta.value_bytes", "bytes", "Value")
field("reserved", "none", "Reserved key")
field("reserved.key", "bytes", "Key")
field("reserved.value", "bytes", "Value")
field("msg_id", "string", "msg-id (crate)")
field("frag_id", "uint8", "frag-id (crate)")
field("frag_index", "uint8", "frag-index (crate)")
field("frag_total", "uint8", "frag-total (crate)")

-- Reserved keys, §3.
field("connection_id", "bytes", "Connection id")
field("packet_number32", "uint32", "Packet number, lowest 32 bits")
field("packet_number_masked", "bytes", "Packet number, masked")
field("packet_number", "uint64", "Packet number")
field("message.id", "uint64", "Message id")
field("message.total", "uint64", "Message total")
field("message.offset", "uint64", "Message offset")
field("message.last", "bool", "Last fragment of the message")
field("cancel", "uint64", "Cancelled message id")
field("code", "uint64", "Code")
field("close", "none", "Close: the sender does not read any more")
field("ping", "bytes", "Ping")
field("versions", "uint64", "Version of the profile")
field("session_id", "bytes", "Session id")
field("max_frame", "uint64", "Max frame")
field("max_message", "uint64", "Max message")
field("checksum", "uint8", "Checksum", base.DEC, { [0] = "off", "on" })
field("compress", "uint8", "Compression", base.DEC, ALGORITHMS)
field("idle", "uint64", "Idle timeout in milliseconds")
field("cookie", "bytes", "Cookie")
field("token", "bytes", "Token")
field("source_id", "bytes", "Source connection id")
field("part", "bytes", "Part of the block")
field("part.total", "uint64", "Part: length of the block")
field("part.offset", "uint64", "Part: offset")
field("max_datagram", "uint64", "Max datagram")
field("credit.max_data", "uint64", "Credit: MaxData")
field("credit.max_stream_data", "uint64", "Credit: MaxStreamData")
field("credit.max_streams", "uint64", "Credit: MaxStreams")
field("credit.max_messages", "uint64", "Credit: MaxMessages")
field("ack_delay", "uint64", "Ack delay in microseconds")
field("service", "uint8", "Service", base.DEC, { [0] = "messages only", "byte stream", "byte stream, moves" })
field("carrier", "uint8", "Carrier", base.DEC, CARRIERS)
field("attach.server_id", "bytes", "Attach: connection id of the server")
field("attach.n", "uint64", "Attach: number of the attempt")
field("attach.proof", "bytes", "Attach: proof")
field("move.sequence", "uint64", "Move: sequence")
field("move.carrier", "uint64", "Move: carrier", base.DEC, CARRIERS)
field("parity", "uint8", "Parity")
field("parity.shards", "uint64", "Shards of a block")
field("parity.block", "uint64", "Block")
field("parity.index", "uint64", "Index")
field("padding", "bytes", "Padding")
field("reset_token", "bytes", "Reset token")
field("crypto.offset", "uint64", "Offset in the Initial level of TLS")
field("crypto.length", "uint64", "Length")
field("crypto.initial_have", "uint64", "Initial level that has come")
field("crypto.handshake_have", "uint64", "Handshake level that has come")
field("crypto.data", "bytes", "Bytes of TLS, Initial level")

-- Chunks, §7.5.
field("chunk", "none", "Chunk")
field("chunk.type", "uint8", "Chunk type", base.HEX, CHUNK_TYPES)
field("chunk.name", "string", "Chunk name")
field("chunk.undecoded", "bytes", "Not decoded")
field("padding.count", "uint32", "Bytes of padding")
field("ack.largest", "uint64", "Largest")
field("ack.delay", "uint64", "Delay in microseconds")
field("ack.count", "uint64", "Further ranges")
field("ack.first", "uint64", "First range, less one")
field("ack.gap", "uint64", "Gap, less one")
field("ack.length", "uint64", "Length, less one")
field("ack.range", "string", "Range")
field("stream.id", "uint64", "Stream")
field("stream.offset", "uint64", "Offset")
field("stream.length", "uint64", "Length")
field("stream.fin", "bool", "FIN")
field("stream.data", "bytes", "Data")
field("stream.final_size", "uint64", "Final size")
field("max_data", "uint64", "MAX_DATA")
field("max_stream_data", "uint64", "MAX_STREAM_DATA")
field("max_streams", "uint64", "MAX_STREAMS")
field("max_messages", "uint64", "MAX_MESSAGES")
field("data_blocked", "uint64", "DATA_BLOCKED")
field("stream_blocked", "uint64", "STREAM_BLOCKED")
field("messages_blocked", "uint64", "MESSAGES_BLOCKED")
field("path_data", "bytes", "Path data")
field("control.offset", "uint64", "Offset")
field("control.length", "uint64", "Length")
field("control.data", "bytes", "Data")
field("close.length", "uint64", "Text length")
field("message.length", "uint64", "Length")
field("message.data", "bytes", "Data of the fragment")
field("message.channel", "uint64", "Channel")
field("message.sequence", "uint64", "Sequence")
field("body.attributes", "uint8", "Attributes", base.HEX)
field("body.header", "bool", "Header block", 8, nil, 0x04)
field("body.ack", "bool", "Wants an acknowledgement", 8, nil, 0x02)
field("body.ordered", "bool", "Ordered", 8, nil, 0x01)
field("body.header_length", "uint64", "Header block length")
field("body.payload", "bytes", "Payload of the message")

do
  local list = {}
  for _, x in pairs(f) do list[#list + 1] = x end
  vstp.fields = list
end

local e = {
  crc = ProtoExpert.new("vstp.expert.crc", "CRC is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
  malformed = ProtoExpert.new("vstp.expert.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR),
  rule = ProtoExpert.new("vstp.expert.rule", "Breaks a rule", expert.group.PROTOCOL, expert.severity.WARN),
  lost = ProtoExpert.new("vstp.expert.lost", "Not the beginning of a frame", expert.group.UNDECODED, expert.severity.WARN),
  cut = ProtoExpert.new("vstp.expert.cut", "Not all captured", expert.group.UNDECODED, expert.severity.NOTE),
  err = ProtoExpert.new("vstp.expert.err", "Connection ended by an error", expert.group.RESPONSE_CODE, expert.severity.NOTE),
}
vstp.experts = { e.crc, e.malformed, e.rule, e.lost, e.cut, e.err }

vstp.prefs.ports = Pref.range("Ports", "6969", "TCP and UDP ports of VSTP; on others it is recognised by its bytes", 65535)
vstp.prefs.heuristic = Pref.bool("Recognise by content", true, "Look for frames on other ports too")
vstp.prefs.check_crc = Pref.bool("Check the CRC", true, "Compute the CRC of each frame that has one")
vstp.prefs.max_frame = Pref.uint("Largest frame in MiB", 64, "A larger one on TCP is taken for damage, and not put together")

local tcp_stream, udp_stream = Field.new("tcp.stream"), Field.new("udp.stream")

-- ---------------------------------------------------------------------------- state

-- Packets come in order the first time. What was learnt from them then is kept for when
-- they are shown again, in any order.
local streams       -- by TCP connection: profile; by direction: whether there is a trailer
local associations  -- by connection id: the largest packet number
local numbers       -- by frame number of the capture: the whole packet number
local parts         -- pieces of HELLO and WELCOME, §7.3
local done_parts    -- of those, which are complete
local blocks        -- by frame number: the block that became complete there

local function reset()
  streams, associations, numbers, parts, done_parts, blocks = {}, {}, {}, {}, {}, {}
end
vstp.init = reset
reset()

-- ---------------------------------------------------------------------------- CRC, §2.5

local crc32
if math.type then -- Lua 5.3 and later have operators, which older ones cannot even parse
  crc32 = load([[
    local t = {}
    for i = 0, 255 do
      local c = i
      for _ = 1, 8 do c = (c & 1 == 1) and (0xedb88320 ~ (c >> 1)) or (c >> 1) end
      t[i] = c
    end
    local byte = string.byte
    return function(s)
      local c = 0xffffffff
      for i = 1, #s do c = t[(c ~ byte(s, i)) & 0xff] ~ (c >> 8) end
      return c ~ 0xffffffff
    end]])()
else
  local b = bit32 or bit
  local bxor, band, rshift, byte = b.bxor, b.band, b.rshift, string.byte
  local t = {}
  for i = 0, 255 do
    local c = i
    for _ = 1, 8 do
      c = band(c, 1) == 1 and bxor(0xedb88320, rshift(c, 1)) or rshift(c, 1)
    end
    t[i] = c
  end
  crc32 = function(s)
    local c = 0xffffffff
    local n = #s - #s % 4
    for i = 1, n, 4 do
      local p, q, r, o = byte(s, i, i + 3)
      c = bxor(t[band(bxor(c, p), 0xff)], rshift(c, 8))
      c = bxor(t[band(bxor(c, q), 0xff)], rshift(c, 8))
      c = bxor(t[band(bxor(c, r), 0xff)], rshift(c, 8))
      c = bxor(t[band(bxor(c, o), 0xff)], rshift(c, 8))
    end
    for i = n + 1, #s do c = bxor(t[band(bxor(c, byte(s, i)), 0xff)], rshift(c, 8)) end
    return bxor(c, 0xffffffff) % 4294967296 -- bit's numbers have a sign
  end
end

-- ---------------------------------------------------------------------------- reading

local function has(flags, bit1) return math.floor(flags / bit1) % 2 == 1 end
-- unknown_flags is for all but sealed packets. §2.3
local function unknown_flags(flags) return flags >= SEALED or math.floor(flags / 4) % 4 ~= 0 end

-- text makes what came from the peer fit to be shown in a line.
local function text(s)
  s = s:gsub("[%z\1-\31\127]", function(c) return string.format("\\x%02x", c:byte()) end)
  if #s > 80 then s = s:sub(1, 77):gsub("[\192-\255]?[\128-\191]*$", "") .. "..." end
  return s
end

local function printable(s) return not s:find("[%z\1-\8\11\12\14-\31\127]") end

-- num is a number as text. Above EXACT, u has the exact one.
local function num(n, u)
  if n >= EXACT and u then return tostring(u) end
  return string.format("%.0f", n)
end

-- against returns off + len compared with total: -1, 0 or 1. Each offset comes as a double
-- and as the exact number.
local function against(off, uoff, len, total, utotal)
  local sum = off + len
  if sum < EXACT and total < EXACT then
    return sum < total and -1 or sum > total and 1 or 0
  end
  sum = (uoff or UInt64.new(0, 0)) + UInt64.new(len, 0)
  return sum < utotal and -1 or utotal < sum and 1 or 0
end

-- varint returns the number, its length and the exact number at off, or nothing. §1
local function varint(tvb, off, stop)
  if off >= stop then return nil end
  local first = tvb(off, 1):uint()
  local len = 2 ^ math.floor(first / 64)
  len = math.floor(len)
  if off + len > stop then return nil end
  local top = first % 64
  if len < 8 then
    local n = top
    for i = 1, len - 1 do n = n * 256 + tvb(off + i, 1):uint() end
    return n, len, UInt64.new(n, 0)
  end
  local hi = top * 16777216 + tvb(off + 1, 3):uint()
  local lo = tvb(off + 4, 4):uint()
  return hi * 4294967296.0 + lo, 8, UInt64.new(lo, hi)
end

-- A reader takes things off tvb between pos and stop, and adds them to a tree. After the
-- first failure all is 0, and ok is false.
local Reader = {}
Reader.__index = Reader

local function reader(tvb, pos, stop, tree)
  return setmetatable({ tvb = tvb, pos = pos, stop = stop, tree = tree, ok = true }, Reader)
end

-- varint returns the number, and the exact one, and the item of the tree.
function Reader:varint(fld)
  if not self.ok then return 0, UInt64.new(0, 0) end
  local n, len, u = varint(self.tvb, self.pos, self.stop)
  if not n then
    self.ok = false
    return 0, UInt64.new(0, 0)
  end
  local item = fld and self.tree:add(fld, self.tvb(self.pos, len), u)
  self.pos = self.pos + len
  return n, u, item
end

-- data returns the range of n bytes, or nil.
function Reader:data(n)
  if not self.ok or n > self.stop - self.pos then
    self.ok = false
    return nil
  end
  n = math.floor(n)
  local r = self.tvb(self.pos, n)
  self.pos = self.pos + n
  return r
end

function Reader:left() return self.stop - self.pos end

-- add_bytes adds a range that may be empty.
local function add_bytes(tree, fld, range)
  if range and range:len() > 0 then return tree:add(fld, range) end
end

local function add_text(tree, fld, range)
  if range:len() == 0 then return tree:add(fld, range, "") end
  return tree:add_packet_field(fld, range, ENC_UTF_8)
end

local function string_of(range)
  if range:len() == 0 then return "" end
  return range:string(ENC_UTF_8)
end

local function raw_of(range)
  if range:len() == 0 then return "" end
  return range:raw()
end

local function expert_at(item, x, msg)
  if item then item:add_proto_expert_info(x, msg or "Not all of it was captured") end
end

-- ---------------------------------------------------------------------------- header block

-- split finds the fields of a header block: a list of { key, value } (ranges), and false
-- if the block does not add up. §2.4
local function split(tvb, off, stop)
  local list = {}
  while off < stop do
    if off + 2 > stop then return list, false, off end
    local k, v = tvb(off, 1):uint(), tvb(off + 1, 1):uint()
    if off + 2 + k + v > stop then return list, false, off end
    list[#list + 1] = {
      key = tvb(off + 2, k), value = tvb(off + 2 + k, v), all = tvb(off, 2 + k + v), raw = k > 0 and tvb(off + 2, k):raw() or "",
    }
    off = off + 2 + k + v
  end
  return list, true, off
end

-- A value of varints: those of fields in their order, and nothing behind them.
local function varints(...)
  local flds = { ... }
  return function(tree, range, c)
    local r = reader(c.tvb, range:offset(), range:offset() + range:len(), tree)
    local out = {}
    for i, name in ipairs(flds) do
      local n, u, item = r:varint(f[name])
      if r.ok then
        out[i] = num(n, u)
        c[name] = n
        if name == "code" and item and CODES[n] then item:append_text(" (" .. CODES[n] .. ")") end
      end
    end
    return table.concat(out, " "), r.ok and r:left() == 0
  end
end

local function bytes(name, least, most)
  return function(tree, range, c)
    add_bytes(tree, f[name], range)
    c[name] = true
    return range:len() > 0 and tostring(range:bytes()):lower() or "", range:len() >= least and range:len() <= most
  end
end

local function one_byte(name, names)
  return function(tree, range)
    if range:len() ~= 1 then return "", false end
    tree:add(f[name], range)
    local b = range:uint()
    return names and names[b] or tostring(b), not names or names[b] ~= nil
  end
end

-- masked_number shows the number of a sealed packet, of which only the ends know more. §8.4
local function masked_number(tree, range)
  tree:add(f.packet_number_masked, range(8, 4))
  return " masked " .. tostring(range(8, 4):bytes()):lower()
end

-- The reserved keys, §3: name; frames in which they mean something; whether they belong to
-- datagrams only; a function that adds the value and returns it as text, and whether its
-- form is right.
local KEYS = {
  ["\1"] = { name = "packet", types = { [HELLO] = 1, [DATA] = 1, [WELCOME] = 1, [ERR] = 1 }, datagram = true, show = function(tree, range, c)
    local n = range:len()
    if n < 8 then return "", false end
    tree:add(f.connection_id, range(0, 8))
    local s = tostring(range(0, 8):bytes()):lower()
    if n == 12 and c.sealed then
      return s .. masked_number(tree, range), true
    end
    if n == 12 and c.type == DATA then
      tree:add(f.packet_number32, range(8, 4))
      c.pn32 = range(8, 4):uint()
      return s .. " " .. num(c.pn32), true
    end
    return s, n == 8 and c.type ~= DATA
  end },
  ["\2"] = { name = "message", types = { [DATA] = 1, [ACK] = 1 }, stream = true, show = function(tree, range, c)
    if c.type == DATA and has(c.flags, FRAG) then
      return varints("message.id", "message.total", "message.offset")(tree, range, c)
    end
    return varints("message.id")(tree, range, c)
  end },
  ["\3"] = { name = "cancel", types = { [DATA] = 1 }, stream = true, show = varints("cancel") },
  ["\4"] = { name = "code", types = { [ERR] = 1 }, show = varints("code") },
  ["\5"] = { name = "close", types = { [BYE] = 1 }, stream = true, show = function(tree, range, c)
    tree:add(f.close, range)
    c.closing = true
    return "", range:len() == 0
  end },
  ["\6"] = { name = "ping", types = { [PING] = 1, [PONG] = 1 }, stream = true, show = bytes("ping", 0, 16) },
  ["\7"] = { name = "reset token", types = { [ERR] = 1 }, datagram = true, show = bytes("reset_token", 16, 16) },
  ["\8"] = { name = "confirm", types = {} }, -- inside TLS only, §8.6
  ["\9"] = { name = "carriers", types = { [WELCOME] = 1 }, show = function(tree, range)
    local out = {}
    for i = 0, range:len() - 1 do
      tree:add(f.carrier, range(i, 1))
      local b = range(i, 1):uint()
      out[#out + 1] = CARRIERS[b] or tostring(b)
    end
    return table.concat(out, ", "), true
  end },
  ["\10"] = { name = "attach", types = { [HELLO] = 1, [WELCOME] = 1 }, stream = true, show = function(tree, range, c)
    c.attach = true
    if c.type == WELCOME then return bytes("attach.proof", 16, 16)(tree, range, c) end
    if range:len() ~= 32 then return "", false end
    tree:add(f["attach.server_id"], range(0, 8))
    tree:add(f["attach.n"], range(8, 8))
    tree:add(f["attach.proof"], range(16, 16))
    return tostring(range(0, 8):bytes()):lower() .. " n=" .. tostring(range(8, 8):uint64()), true
  end },
  ["\11"] = { name = "parity", types = { [HELLO] = 1, [WELCOME] = 1 }, show = one_byte("parity", { [0] = "0", "1" }) },
  ["\12"] = { name = "token", types = { [WELCOME] = 1 }, show = bytes("token", 1, 64) },
  ["\16"] = { name = "versions", types = { [HELLO] = 1, [WELCOME] = 1 }, show = function(tree, range, c)
    local r, out = reader(c.tvb, range:offset(), range:offset() + range:len(), tree), {}
    while r.ok and r:left() > 0 do
      local n, u = r:varint(f.versions)
      if r.ok then out[#out + 1] = num(n, u) end
    end
    return table.concat(out, " "), r.ok and #out >= 1 and #out <= (c.type == HELLO and 32 or 1)
  end },
  ["\17"] = { name = "session id", types = { [WELCOME] = 1 }, show = bytes("session_id", 16, 16) },
  ["\18"] = { name = "max frame", types = { [HELLO] = 1, [WELCOME] = 1 }, show = varints("max_frame") },
  ["\19"] = { name = "max message", types = { [HELLO] = 1, [WELCOME] = 1 }, show = varints("max_message") },
  ["\20"] = { name = "checksum", types = { [HELLO] = 1, [WELCOME] = 1 }, show = one_byte("checksum", { [0] = "off", "on" }) },
  ["\21"] = { name = "compress", types = { [HELLO] = 1, [WELCOME] = 1 }, show = function(tree, range, c)
    local out = {}
    for i = 0, range:len() - 1 do
      tree:add(f.compress, range(i, 1))
      local b = range(i, 1):uint()
      out[#out + 1] = ALGORITHMS[b] or tostring(b)
    end
    return table.concat(out, " "), c.type == HELLO or range:len() == 1
  end },
  ["\22"] = { name = "idle", types = { [HELLO] = 1, [WELCOME] = 1 }, show = varints("idle") },
  ["\23"] = { name = "cookie", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = bytes("cookie", 1, 64) },
  ["\24"] = { name = "source id", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = function(tree, range, c)
    if range:len() == 12 and c.sealed then
      tree:add(f.source_id, range(0, 8))
      return tostring(range(0, 8):bytes()):lower() .. masked_number(tree, range), true
    end
    return bytes("source_id", 8, 8)(tree, range, c)
  end },
  ["\25"] = { name = "part", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = varints("part.total", "part.offset") },
  ["\26"] = { name = "max datagram", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = varints("max_datagram") },
  ["\27"] = { name = "credit", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true,
    show = varints("credit.max_data", "credit.max_stream_data", "credit.max_streams", "credit.max_messages") },
  ["\28"] = { name = "ack delay", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = varints("ack_delay") },
  ["\29"] = { name = "service", types = { [HELLO] = 1 }, datagram = true, show = one_byte("service", { [0] = "messages only", "byte stream", "byte stream, moves" }) },
  ["\30"] = { name = "padding", types = { [HELLO] = 1 }, datagram = true, show = function(tree, range)
    add_bytes(tree, f.padding, range)
    return range:len() .. " bytes", true
  end },
  ["\31"] = { name = "crypto", types = { [HELLO] = 1, [WELCOME] = 1 }, datagram = true, show = function(tree, range, c)
    c.crypto = true
    local two = varints("crypto.offset", "crypto.length")
    local four = varints("crypto.offset", "crypto.length", "crypto.initial_have", "crypto.handshake_have")
    local r, n = reader(c.tvb, range:offset(), range:offset() + range:len()), 0
    while r.ok and r:left() > 0 do
      r:varint()
      n = n + 1
    end
    if n > 2 and c.type == HELLO then return four(tree, range, c) end
    return two(tree, range, c)
  end },
}

-- in_front says whether the i-th field can be crypto, which means nothing elsewhere. §8.5
local function in_front(list, i, c)
  local before = i > 1 and list[i - 1].raw
  return not c["part.total"] and (before == "\24" and i <= 3 or before == "\23" and i == 3 and c.type == HELLO)
end

local function add_meta(tree, fl)
  local k, v, raw = text(string_of(fl.key)), string_of(fl.value), raw_of(fl.value)
  local t = tree:add(f.meta, fl.all)
  t:set_text(k .. " = " .. (printable(raw) and text(v) or "(" .. #raw .. " bytes)"))
  add_text(t, f["meta.key"], fl.key)
  if printable(raw) then
    add_text(t, f["meta.value"], fl.value)
  else
    add_bytes(t, f["meta.value_bytes"], fl.value)
  end
  return t
end

local CRATE_NUMBERS = { ["frag-id"] = "frag_id", ["frag-index"] = "frag_index", ["frag-total"] = "frag_total" }

-- The keys of the crate profile, §6.3, §6.7. Where they do not have their form they are
-- metadata and nothing else; of fragments it is an error.
local function add_crate(t, fl, c)
  local v = raw_of(fl.value)
  if fl.raw == "msg-id" and v:find("^%d+$") and #v <= 20 then
    add_text(t, f.msg_id, fl.value)
    c.msg_id = v
  elseif CRATE_NUMBERS[fl.raw] and has(c.flags, FRAG) and c.datagram then
    local n = v:find("^%d+$") and #v <= 20 and tonumber(v)
    if n and n <= 255 then
      t:add(f[CRATE_NUMBERS[fl.raw]], fl.value, n)
      c[CRATE_NUMBERS[fl.raw]] = n
    else
      expert_at(t, e.malformed, fl.raw .. " is no number from 0 to 255")
    end
  end
end

-- add_fields shows fields of a header block. c is what is known of the frame.
local function add_fields(tree, list, c)
  local seen = {}
  for i, fl in ipairs(list) do
    local k = KEYS[fl.raw]
    if c.profile == CRATE or fl.raw == "" or fl.raw:byte() >= 0x20 then
      local t = add_meta(tree, fl)
      if c.profile ~= NEGOTIATED then add_crate(t, fl, c) end
    elseif not k or not k.types[c.type] or (k.datagram and not c.datagram and not c.auto) or (k.stream and c.datagram)
        or (c.type == DATA and i > 1) or (fl.raw == "\1" and c.type == HELLO and not c.sealed)
        or (fl.raw == "\31" and not in_front(list, i, c)) then
      local t = tree:add(f.reserved, fl.all)
      t:set_text("Reserved key " .. tostring(fl.key:bytes()) .. (k and " (" .. k.name .. ")" or "") .. ", ignored here")
      t:add(f["reserved.key"], fl.key)
      add_bytes(t, f["reserved.value"], fl.value)
    else
      local t = tree:add(f.reserved, fl.all)
      t:add(f["reserved.key"], fl.key)
      local s, ok = k.show(t, fl.value, c)
      t:set_text(k.name .. (s ~= "" and " = " .. text(s) or ""))
      if c.crypto and i < #list then c.behind_crypto = true end
      if not ok then expert_at(t, e.malformed, "Value of " .. k.name .. " does not have its form (§3)") end
      if seen[fl.raw] then expert_at(t, e.rule, k.name .. " occurs twice (§3)") end
      seen[fl.raw] = true
    end
  end
end

-- header_block shows the block between off and stop, and says in c what it has found:
-- fields, whether it adds up, and by number what the reserved ones hold.
local function header_block(tvb, off, stop, tree, c)
  if stop <= off then return end
  local t = tree:add(f.header, tvb(off, stop - off))
  local list, ok, at = split(tvb, off, stop)
  t:append_text(": " .. #list .. (#list == 1 and " field" or " fields"))
  add_fields(t, list, c)
  if not ok then
    if c.cut then
      expert_at(t, e.cut)
    else
      expert_at(t:add(f["chunk.undecoded"], tvb(at, stop - at)), e.malformed, "The header block does not add up (§2.4)")
    end
  end
end

-- ---------------------------------------------------------------------------- chunks, §7.5

-- A function for each chunk gets a reader behind its type, the type, the tree of the chunk,
-- and c. It returns what the info column says of it, and a complaint if a rule is broken.
local chunk = {}

local function credit(name, of_stream)
  return function(r, _, _, _, label)
    local id
    if of_stream then id = r:varint(f["stream.id"]) end
    local n, u = r:varint(f[name])
    return label .. (id and " " .. num(id) or "") .. "=" .. num(n, u)
  end
end

chunk[0x00] = function(r, _, t)
  local start = r.pos - 1
  while r.pos < r.stop and r.tvb(r.pos, 1):uint() == 0 do r.pos = r.pos + 1 end
  t:add(f["padding.count"], r.tvb(start, r.pos - start), r.pos - start)
  return "PADDING(" .. (r.pos - start) .. ")"
end

chunk[0x01] = function() return "PING" end

chunk[0x02] = function(r, _, t)
  local start = r.pos
  local large, ularge = r:varint(f["ack.largest"])
  r:varint(f["ack.delay"])
  local count = r:varint(f["ack.count"])
  -- What does not fit a double any more is computed with exact numbers.
  local exact = large >= EXACT
  local function val(n, u) if exact then return u end return n end
  local function str(v) if exact then return tostring(v) end return num(v) end
  local high = val(large, ularge)
  local first, ufirst = r:varint(f["ack.first"])
  if not r.ok then return "ACK" end
  local below0 = "its ranges reach below 0"
  if first > large then return "ACK", below0 end
  local low = high - val(first, ufirst)
  local shown = {}
  local function range(from, to)
    local s = str(low) == str(high) and str(high) or str(low) .. "-" .. str(high)
    t:add(f["ack.range"], r.tvb(from, to - from), s):set_generated()
    if #shown < 4 then shown[#shown + 1] = s elseif #shown == 4 then shown[5] = "..." end
  end
  range(start, r.pos)
  if count > r:left() / 2 then
    r.ok = false
    return "ACK"
  end
  for _ = 1, count do
    local from = r.pos
    local gap, ugap = r:varint(f["ack.gap"])
    local n, un = r:varint(f["ack.length"])
    if not r.ok then return "ACK" end
    -- Compared as text would be wrong, and as doubles not exact: so in the kind of low.
    if low < val(gap, ugap) + val(2, UInt64.new(2, 0)) then return "ACK", below0 end
    high = low - val(gap, ugap) - val(2, UInt64.new(2, 0))
    if high < val(n, un) then return "ACK", below0 end
    low = high - val(n, un)
    range(from, r.pos)
  end
  return "ACK " .. table.concat(shown, ",")
end

chunk[0x04] = function(r)
  local id = r:varint(f["stream.id"])
  local code = r:varint(f.code)
  local size, u = r:varint(f["stream.final_size"])
  return string.format("RESET_STREAM %s code=%s size=%s", num(id), num(code), num(size, u))
end

chunk[0x05] = function(r)
  local id = r:varint(f["stream.id"])
  return string.format("STOP_SENDING %s code=%s", num(id), num((r:varint(f.code))))
end

-- Those of sealed packets. What can be read is not sealed.
local not_sealed = "it is for sealed packets (§8)"

chunk[0x06] = function(r, _, t)
  local off, uoff = r:varint(f["control.offset"])
  local len = r:varint(f["control.length"])
  add_bytes(t, f["control.data"], r:data(len))
  return string.format("CRYPTO off=%s len=%s", num(off, uoff), num(len)), not_sealed
end

chunk[0x07] = function(r)
  local off, uoff = r:varint(f["control.offset"])
  return "HAVE " .. num(off, uoff), not_sealed
end

chunk[0x1e] = function() return "HANDSHAKE_DONE", not_sealed end

chunk[0x08] = function(r, typ, t, c)
  local id, uid = r:varint(f["stream.id"])
  local off, uoff = 0, nil
  if has(typ, 0x04) then off, uoff = r:varint(f["stream.offset"]) end
  local len = r:left()
  if has(typ, 0x02) then len = r:varint(f["stream.length"]) end
  local data = r:data(len)
  if not r.ok then return "STREAM" end
  t:add(f["stream.fin"], r.tvb(c.chunk_at, 1), has(typ, 0x01))
  add_bytes(t, f["stream.data"], data)
  local s = string.format("STREAM %s off=%s len=%d%s", num(id, uid), num(off, uoff), len, has(typ, 0x01) and " FIN" or "")
  if against(off, uoff, len, EXACT, MAX_VARINT) > 0 then return s, "its data goes beyond 2^62 - 1" end
  return s
end

chunk[0x10] = credit("max_data")
chunk[0x11] = credit("max_stream_data", true)
chunk[0x12] = credit("max_streams")
chunk[0x13] = credit("max_messages")
chunk[0x14] = credit("data_blocked")
chunk[0x15] = credit("stream_blocked", true)
chunk[0x16] = credit("messages_blocked")

chunk[0x1a] = function(r, _, t, _, label)
  add_bytes(t, f.path_data, r:data(8))
  return label
end
chunk[0x1b] = chunk[0x1a]

chunk[0x1d] = function(r)
  local seq, u = r:varint(f["move.sequence"])
  local to = r:varint(f["move.carrier"])
  if not r.ok then return "MOVE" end
  local s = string.format("MOVE %s to %s", num(seq, u), CARRIERS[to] or num(to))
  return s, not CARRIERS[to] and "an unknown carrier" or nil
end

chunk[0x1c] = function(r, _, t, c)
  local code, _, item = r:varint(f.code)
  local name = CODES[code]
  if item and name then item:append_text(" (" .. name .. ")") end
  local len = r:varint(f["close.length"])
  local s = "CLOSE code=" .. num(code) .. (name and code ~= 0 and " (" .. name .. ")" or "")
  local data = r:data(len)
  if not r.ok then return s end
  if data:len() > 0 then
    add_text(t, f.text, data)
    s = s .. " \"" .. text(string_of(data)) .. "\""
  end
  c.closed = true
  if code ~= 0 then expert_at(t, e.err, "The association ends with code " .. num(code)) end
  return s
end

-- body shows a message's body, or as much of it as is there when whole is false. §7.8
local function body(r, t, whole, of_message)
  if r:left() == 0 then
    return "", whole and "a body without attributes" or nil
  end
  local a = r.tvb(r.pos, 1)
  local bits = a:uint()
  local at = t:add(f["body.attributes"], a)
  at:add(f["body.header"], a)
  at:add(f["body.ack"], a)
  at:add(f["body.ordered"], a)
  r.pos = r.pos + 1
  local s, complaint = "", nil
  if bits >= 8 then return s, "unknown attributes" end
  if of_message and bits % 4 ~= 0 then complaint = "a MESSAGE cannot be ordered, and wants no acknowledgement" end
  if has(bits, 0x02) then s = s .. " ack" end
  if has(bits, 0x01) then
    local ch = r:varint(f["message.channel"])
    local seq, u = r:varint(f["message.sequence"])
    s = s .. string.format(" channel=%s seq=%s", num(ch), num(seq, u))
    if ch >= 1024 then complaint = "a channel of 1,024 or more" end
  end
  if has(bits, 0x04) then
    local n = r:varint(f["body.header_length"])
    if not r.ok then return s, whole and "its body does not decode" or complaint end
    if n > 65535 then return s, "a header block of more than 65,535 bytes" end
    local stop = math.min(r.pos + n, r.stop)
    if stop < r.pos + n and whole then return s, "its header block is longer than its body" end
    if stop > r.pos then
      header_block(r.tvb, r.pos, stop, t, { tvb = r.tvb, type = 0, flags = 0, profile = NEGOTIATED, datagram = true,
        cut = stop < r.pos + n })
    end
    r.pos = stop
  end
  if not r.ok then return s, whole and "its body does not decode" or complaint end
  if r:left() > 0 then t:add(f["body.payload"], r.tvb(r.pos, r:left())) end
  return s, complaint
end

chunk[0x20] = function(r, typ, t, c)
  local len = r:left()
  if has(typ, 0x01) then len = r:varint(f["message.length"]) end
  local data = r:data(len)
  if not r.ok then return "MESSAGE" end
  local s, complaint = body(reader(r.tvb, data:offset(), data:offset() + data:len(), t), t, not c.cut, true)
  return "MESSAGE len=" .. num(len) .. s, complaint
end

chunk[0x24] = function(r, typ, t)
  local id, uid = r:varint(f["message.id"])
  local total, utotal = r:varint(f["message.total"])
  local off, uoff = r:varint(f["message.offset"])
  local len = r:left()
  if has(typ, 0x01) then len = r:varint(f["message.length"]) end
  local data = r:data(len)
  if not r.ok then return "FRAGMENT" end
  local s = string.format("FRAGMENT msg=%s total=%s off=%s len=%d", num(id, uid), num(total, utotal), num(off, uoff), len)
  if len == 0 then return s, "an empty fragment" end
  add_bytes(t, f["message.data"], data)
  local where = against(off, uoff, len, total, utotal)
  if where > 0 then return s, "it goes beyond the total" end
  if where == 0 then t:add(f["message.last"], data, true):set_generated() end
  if off == 0 then
    local more, complaint = body(reader(r.tvb, data:offset(), data:offset() + data:len(), t), t, len == total, false)
    return s .. more, complaint
  end
  return s
end

chunk[0x28] = function(r, typ)
  local id, uid = r:varint(f["message.id"])
  local total, utotal = r:varint(f["message.total"])
  local s = string.format("CANCEL msg=%s total=%s", num(id, uid), num(total, utotal))
  if has(typ, 0x01) then
    local ch = r:varint(f["message.channel"])
    local seq, u = r:varint(f["message.sequence"])
    s = s .. string.format(" channel=%s seq=%s", num(ch), num(seq, u))
    if ch >= 1024 then return s, "a channel of 1,024 or more" end
  end
  return s
end

chunk[0x2c] = function(r, typ)
  local id, uid = r:varint(f["message.id"])
  local total, utotal = r:varint(f["message.total"])
  local shards = r:varint(f["parity.shards"])
  local block, ublock = r:varint(f["parity.block"])
  local index = r:varint(f["parity.index"])
  local len = r:left()
  if has(typ, 0x01) then len = r:varint(f["message.length"]) end
  r:data(len)
  local s = string.format("PARITY msg=%s total=%s shards=%s block=%s index=%s len=%d", num(id, uid), num(total, utotal),
    num(shards), num(block, ublock), num(index), len)
  if len == 0 then return s, "empty parity" end
  if shards < 2 or shards > 64 then return s, "a block of less than 2 or more than 64 shards" end
  if index >= 64 then return s, "an index of 64 or more" end
  return s
end

local function base_type(typ)
  if typ >= 0x08 and typ <= 0x0f then return 0x08 end
  if typ == 0x21 or typ == 0x25 or typ == 0x29 or typ == 0x2d then return typ - 1 end
  return typ
end

-- chunks shows the payload of a packet, and returns what it says in short.
local function chunks(tvb, off, stop, tree, c)
  local said = {}
  if off >= stop and not c.cut then
    expert_at(tree, e.rule, "A packet without a chunk (§7.1)")
  end
  while off < stop do
    if c.closed then
      tree:add(f["chunk.undecoded"], tvb(off, stop - off)):append_text(" (behind CLOSE, ignored)")
      break
    end
    local typ = tvb(off, 1):uint()
    local b = base_type(typ)
    local label = CHUNKS[b]
    local t = tree:add(f.chunk, tvb(off, stop - off))
    t:add(f["chunk.type"], tvb(off, 1))
    if not label then
      t:set_text(string.format("Chunk of unknown type 0x%02x", typ))
      expert_at(t, e.malformed, string.format("Unknown chunk type 0x%02x (§7.5)", typ))
      said[#said + 1] = string.format("chunk 0x%02x?", typ)
      break
    end
    t:add(f["chunk.name"], tvb(off, 1), label):set_generated()
    c.chunk_at = off
    local r = reader(tvb, off + 1, stop, t)
    local s, complaint = chunk[b](r, typ, t, c, label)
    t:set_text(s)
    if not r.ok then
      if c.cut then
        expert_at(t, e.cut)
      else
        t:set_text(label .. " (does not decode)")
        t:add(f["chunk.undecoded"], tvb(off, stop - off))
        expert_at(t, e.malformed, label .. " does not decode (§7.5)")
      end
      said[#said + 1] = label .. "?"
      break
    end
    t:set_len(r.pos - off)
    if complaint then
      expert_at(t, e.rule, label .. ": " .. complaint)
      s = s .. "!"
    end
    said[#said + 1] = s
    if r.pos <= off then break end
    off = r.pos
  end
  return table.concat(said, " ")
end

-- ---------------------------------------------------------------------------- frames

-- fixed reads the fixed header, of which 11 bytes are there. §2.1
local function fixed(tvb, off)
  local c = {
    tvb = tvb, off = off, version = tvb(off + 2, 1):uint(), type = tvb(off + 3, 1):uint(), flags = tvb(off + 4, 1):uint(),
    hdr = tvb(off + 5, 2):le_uint(), pay = tvb(off + 7, 4):uint(),
  }
  c.body = 11 + c.hdr + c.pay
  return c
end

-- looks_right says whether n bytes at off can be the beginning of a frame.
local function looks_right(tvb, off, n)
  if n >= 1 and tvb(off, 1):uint() ~= 0x56 then return false end
  if n >= 2 and tvb(off + 1, 1):uint() ~= 0x54 then return false end
  if n >= 3 and tvb(off + 2, 1):uint() ~= 0x01 then return false end
  if n >= 4 then
    local t = tvb(off + 3, 1):uint()
    return t >= 1 and t <= 8
  end
  return true
end

-- first_key returns the first field's key and the length of its value, if it is there.
local function first_key(c)
  local tvb, off = c.tvb, c.off + 11
  if c.hdr < 2 or off + 2 > tvb:captured_len() then return nil end
  local k, v = tvb(off, 1):uint(), tvb(off + 1, 1):uint()
  if k == 0 or 2 + k + v > c.hdr or off + 2 + k + v > tvb:captured_len() then return nil end
  return tvb(off + 2, k):raw(), v
end

local function has_key(c, key)
  local stop = math.min(c.off + 11 + c.hdr, c.tvb:captured_len())
  for _, fl in ipairs((split(c.tvb, c.off + 11, stop))) do
    if fl.raw == key then return true end
  end
  return false
end

local function flag_names(flags)
  local s = {}
  if has(flags, REQ_ACK) then s[#s + 1] = "REQ_ACK" end
  if has(flags, CRC) then s[#s + 1] = "CRC" end
  if has(flags, FRAG) then s[#s + 1] = "FRAG" end
  if has(flags, COMP) then s[#s + 1] = "COMP" end
  if has(flags, SEALED) then s[#s + 1] = "SEALED" end
  if has(flags, PHASE) then s[#s + 1] = "PHASE" end
  local rest = math.floor(flags / 4) % 4 * 4
  if rest > 0 then s[#s + 1] = string.format("0x%02x", rest) end
  return #s > 0 and table.concat(s, ", ") or "none"
end

-- add_crc shows the trailer, and whether it is right.
local function add_crc(t, c, stop)
  local status, item
  if c.trailer == 0 then
    t:add(f["crc.status"], c.tvb(c.off, 0), CRC_NONE):set_generated()
    return
  end
  local at = c.off + c.body
  if at + 4 > stop then
    status = CRC_UNVERIFIED
  else
    item = t:add(f.crc, c.tvb(at, 4))
    status = CRC_UNVERIFIED
    if vstp.prefs.check_crc then
      local sum = c.sum or crc32(c.tvb:raw(c.off, c.body))
      status = sum == c.tvb(at, 4):uint() and CRC_GOOD or CRC_BAD
      if status == CRC_BAD then
        t:add(f["crc.computed"], c.tvb(at, 4), sum):set_generated()
        expert_at(item, e.crc, string.format("CRC is wrong: it should be 0x%08x (§2.5)", sum))
        c.bad_crc = true
      end
    end
  end
  t:add(f["crc.status"], item and c.tvb(at, 4) or c.tvb(c.off, 0), status):set_generated()
end

-- crypto_info says what a HELLO or WELCOME is that has bytes of TLS, and complains. §8.5
local function crypto_info(t, c, name)
  local off, len = c["crypto.offset"], c["crypto.length"]
  if c.cookie then name = name .. " with cookie" end
  if not off or not len then return name .. " crypto" end
  local s = string.format("%s crypto off=%s len=%s", name, num(off), num(len))
  if c["crypto.handshake_have"] then
    s = s .. string.format(" has=%s,%s", num(c["crypto.initial_have"]), num(c["crypto.handshake_have"]))
  end
  if len > c.pay then expert_at(t, e.malformed, "Crypto goes beyond the payload (§8.5)") end
  if c.type == HELLO and c.body + c.trailer < 1200 then
    expert_at(t, e.rule, "A HELLO with crypto of less than 1,200 bytes (§8.5)")
  end
  if c.behind_crypto then expert_at(t, e.rule, "Fields behind crypto (§8.5)") end
  return s
end

-- stream_info says in short what a frame is that is no packet, and complains about flags.
local function stream_info(t, c)
  local name = TYPES[c.type] or string.format("type %d", c.type)
  local frag = has(c.flags, FRAG)
  if c.profile == CRATE then
    local s = name .. (c.pay > 0 and " len=" .. num(c.pay) or "")
    if c.msg_id then s = s .. " msg-id=" .. c.msg_id end
    if c.frag_id and c.frag_index and c.frag_total then
      s = s .. string.format(" frag %d/%d of %d", c.frag_index + 1, c.frag_total, c.frag_id)
      if c.frag_index >= c.frag_total then expert_at(t, e.malformed, "frag-index is not below frag-total (§6.7)") end
    end
    return s
  end
  if unknown_flags(c.flags) then expert_at(t, e.rule, "Unknown flags (§2.3)") end
  local id = c["message.id"]
  if c.type == DATA then
    local key = first_key(c)
    if key == "\2" and id then
      local s = "DATA message=" .. num(id)
      if not frag then return s .. " len=" .. num(c.pay) end
      local total, off = c["message.total"], c["message.offset"]
      if not total or not off then return s end
      if c.pay == 0 then
        expert_at(t, e.rule, "An empty fragment (§5.3)")
      elseif not has(c.flags, COMP) then
        if off + c.pay > total then
          expert_at(t, e.rule, "The fragment goes beyond the total (§5.3)")
        elseif off + c.pay == total then
          t:add(f["message.last"], c.tvb(c.off, 0), true):set_generated()
        end
      end
      return s .. string.format(" total=%s off=%s len=%s", num(total), num(off), num(c.pay))
    elseif key == "\3" and c.cancel then
      if c.pay > 0 then expert_at(t, e.rule, "A cancel with a payload (§5.3)") end
      return "DATA cancel=" .. num(c.cancel)
    end
    if frag or has(c.flags, REQ_ACK) then
      expert_at(t, e.rule, "FRAG or REQ_ACK without a message as the first field (§5)")
    end
    return "DATA len=" .. num(c.pay)
  end
  if frag or has(c.flags, REQ_ACK) or has(c.flags, COMP) then
    expert_at(t, e.rule, "REQ_ACK, FRAG and COMP are for DATA (§2.3)")
  end
  if c.type == ACK and id then return "ACK message=" .. num(id) end
  if c.type == ERR then
    local code = c.code or 0
    expert_at(t, e.err, "ERR with code " .. num(code))
    return "ERR code=" .. num(code) .. (CODES[code] and " (" .. CODES[code] .. ")" or "")
  end
  if c.type == HELLO or c.type == WELCOME then
    if not has(c.flags, CRC) then expert_at(t, e.rule, name .. " without the CRC (§4)") end
    if c["part.total"] then
      return name .. string.format(" part off=%s of %s", num(c["part.offset"] or 0), num(c["part.total"]))
    end
    if c.crypto then return crypto_info(t, c, name) end
    if c.pay > 0 then expert_at(t, e.rule, name .. " with a payload (§4)") end
    if c.cookie and c.type == WELCOME then return "WELCOME retry" end
  end
  if c.attach then return name .. " attach" end
  if c.closing then return name .. " close" end
  if c.cookie and c.type == HELLO then return name .. " with cookie" end
  return name
end

-- add_part shows a piece of a HELLO or WELCOME, and the whole block where it is complete. §7.3
local function add_part(t, c, pinfo)
  local total, off = c["part.total"], c["part.offset"]
  if not total or not off or c.cut then return end
  if off + c.pay > total or c.pay == 0 or total > 65535 then
    expert_at(t, e.rule, "A part is empty or goes beyond its total (§7.3)")
    return
  end
  if not pinfo.visited and not c.bad_crc then
    local first = c.tvb(c.off + 11, 11):raw()
    local key = table.concat({ tostring(pinfo.src), pinfo.src_port, tostring(pinfo.dst), pinfo.dst_port, c.type, first, total,
      tostring(has_key(c, "\23")) }, "|")
    local p = parts[key] or {}
    parts[key] = p
    if not p[off] or #p[off] < c.pay then p[off] = c.tvb:raw(c.off + 11 + c.hdr, c.pay) end
    local block, offsets = "", {}
    for o in pairs(p) do offsets[#offsets + 1] = o end
    table.sort(offsets)
    for _, o in ipairs(offsets) do -- they may overlap
      if o <= #block and o + #p[o] > #block then block = block .. p[o]:sub(#block - o + 1) end
    end
    if #block == total and not done_parts[key] then
      done_parts[key] = true
      blocks[pinfo.number] = block
    end
  end
  local block = blocks[pinfo.number]
  if block and #block > 0 then
    local whole = ByteArray.new(block, true):tvb("VSTP block of all parts")
    local list, ok = split(whole, 0, whole:len())
    local bt = t:add(f.header, whole(0, whole:len()))
    bt:set_text("Block of all parts: " .. #list .. " fields")
    add_fields(bt, list, { tvb = whole, type = c.type, flags = c.flags, profile = c.profile, datagram = true })
    if not ok then expert_at(bt, e.malformed, "The block does not add up (§2.4)") end
  end
end

-- full_number extends the 32 bits of a packet number. §7.2
local function full_number(c, pinfo, id)
  if not pinfo.visited then
    local key = tostring(pinfo.dst) .. "|" .. id
    local largest = associations[key]
    local n = c.pn32
    if largest then
      local expected = largest + 1
      n = expected - expected % 4294967296 + c.pn32
      if n + 2147483648 <= expected then
        n = n + 4294967296
      elseif n > expected + 2147483648 and n >= 4294967296 then
        n = n - 4294967296
      end
    end
    if not c.bad_crc and n >= (largest or 0) then associations[key] = n end
    numbers[pinfo.number] = n
  end
  return numbers[pinfo.number] or c.pn32
end

-- sealed shows a packet whose chunks are encrypted, and returns its line. §8.4
local function sealed(t, c, payload)
  local n = payload and payload:len() or 0
  if payload then t:add(f.sealed, payload):set_text(string.format("Sealed (%d bytes)", n)) end
  if c.flags % PHASE ~= SEALED then expert_at(t, e.rule, "A sealed packet with other flags than SEALED and PHASE (§8.4)") end
  if c.hdr ~= 15 then expert_at(t, e.rule, "The first field is the only field of a packet (§7.1)") end
  if c.pay < 17 then expert_at(t, e.rule, "A sealed packet without a chunk and a tag of 16 bytes (§8.4)") end
  local id = tostring(c.tvb(c.off + 14, 8):bytes()):lower()
  local of = c.early and " 0-RTT source=" or " cid="
  return string.format("%s%s%s sealed (%s bytes)", TYPES[c.type], of, id, num(c.pay))
end

-- frame shows the frame c, all of it or what was captured, and returns its line.
local function frame(c, pinfo, tree)
  local tvb, off = c.tvb, c.off
  local stop = math.min(off + c.body + c.trailer, tvb:captured_len())
  c.cut = stop < off + c.body + c.trailer
  local name = TYPES[c.type] or string.format("type %d", c.type)
  local t = tree:add(vstp, tvb(off, stop - off))
  t:add(f.magic, tvb(off, 2))
  t:add(f.version, tvb(off + 2, 1))
  local ti = t:add(f.type, tvb(off + 3, 1))
  if not TYPES[c.type] then expert_at(ti, e.rule, "Unknown type (§2.2)") end
  local ft = t:add(f.flags, tvb(off + 4, 1))
  ft:append_text(" (" .. flag_names(c.flags) .. ")")
  if c.profile == CRATE and unknown_flags(c.flags) then
    ft:append_text(", all taken for clear (§6.4)")
    c.flags = 0
  end
  for _, n in ipairs({ "phase", "sealed", "comp", "frag", "crc", "req_ack" }) do ft:add(f["flags." .. n], tvb(off + 4, 1)) end
  t:add_le(f.hdr_len, tvb(off + 5, 2))
  t:add(f.pay_len, tvb(off + 7, 4))
  t:add(f.profile, tvb(off, 0), c.profile):set_generated()
  if c.cut then expert_at(t, e.cut) end

  local hstop = math.min(off + 11 + c.hdr, stop)
  header_block(tvb, off + 11, hstop, t, c)
  local pstop = math.min(off + c.body, stop)
  local payload = pstop > hstop and tvb(hstop, pstop - hstop) or nil

  local line
  if c.sealed then
    line = sealed(t, c, payload)
    add_crc(t, c, stop)
  elseif c.packet then
    local pt = t
    if payload then pt = t:add(f.payload, payload) end
    add_crc(t, c, stop)
    local id = tostring(tvb(off + 14, 8):bytes())
    local n = full_number(c, pinfo, id)
    t:add(f.packet_number, tvb(off + 22, 4), UInt64.new(n % 4294967296, math.floor(n / 4294967296))):set_generated()
    if c.hdr ~= 15 then expert_at(t, e.rule, "The key packet is the only field of a packet (§7.1)") end
    if c.flags ~= 0 and c.flags ~= CRC then expert_at(t, e.rule, "A packet with other flags than CRC (§7.1)") end
    line = string.format("DATA cid=%s pn=%s", id:lower(), num(n))
    if not c.bad_crc then
      local said = chunks(tvb, hstop, pstop, pt, c)
      if said ~= "" then line = line .. " " .. said end
    end
  else
    if payload and c.profile ~= CRATE and has(c.flags, COMP) then
      t:add(f["payload.compressed"], payload)
    elseif payload and c.type == ERR then
      add_text(t, f.text, payload)
    elseif payload and c["part.total"] then
      t:add(f.part, payload)
    elseif payload then
      local pt, len = t:add(f.payload, payload), c["crypto.length"]
      if c.crypto and len then
        len = math.min(len, payload:len())
        add_bytes(pt, f["crypto.data"], payload(0, len))
        add_bytes(pt, f.padding, len < payload:len() and payload(len))
      end
    end
    add_crc(t, c, stop)
    line = stream_info(t, c)
    if c["part.total"] then add_part(t, c, pinfo) end
    if c.type == ERR and payload then line = line .. " \"" .. text(string_of(payload)) .. "\"" end
  end
  if c.bad_crc then line = line .. " [bad CRC]" end
  t:set_text("VSTP, " .. line)
  return line
end

-- columns writes the lines of frames into the columns. A packet can bring frames in
-- several calls: the first one clears what TCP has written there.
local function columns(pinfo, lines)
  if #lines == 0 then return end
  pinfo.cols.protocol = "VSTP"
  local again = pinfo.private["vstp_frames"]
  if not again then pinfo.cols.info:clear() end
  pinfo.cols.info:append((again and " | " or "") .. table.concat(lines, " | "))
  pinfo.cols.info:fence()
  pinfo.private["vstp_frames"] = "1"
end

-- ---------------------------------------------------------------------------- streams

local function stream_state(pinfo)
  local s = tcp_stream()
  local from = tostring(pinfo.src) .. ":" .. pinfo.src_port
  local to = tostring(pinfo.dst) .. ":" .. pinfo.dst_port
  local key = s and tostring(s.value) or (from < to and from .. to or to .. from)
  local conn = streams[key]
  if not conn then
    conn = { profile = UNKNOWN, trailer = {}, early = {}, waiting = {}, late = {} }
    streams[key] = conn
  end
  return conn, from
end

-- trailer_of says how long the trailer of the frame c is, whose body is here; nil if more
-- bytes have to come before that can be said. §6.2
--
-- Where nothing follows the body yet, it does not wait: a frame that Wireshark is asked to
-- keep, and that then ends before the bytes that came later, would be shown twice. Such a
-- frame is shown without a trailer, and conn.early keeps its sum for the next bytes.
local function trailer_of(c, conn, from, stop, place)
  if has(c.flags, CRC) and (conn.profile ~= CRATE or not unknown_flags(c.flags)) then return 4 end
  if conn.profile == NEGOTIATED then return 0 end
  if conn.early[place] then return 0 end
  local known = conn.trailer[from]
  if known then return known end
  local at = c.off + c.body
  if stop < at then return 4 end -- the body comes first, and most likely a trailer
  c.sum = crc32(c.tvb:raw(c.off, c.body))
  if stop == at then
    conn.early[place] = true
    conn.waiting[from] = c.sum
    return 0
  end
  local there = math.min(4, stop - at)
  if there == 4 and c.sum == c.tvb(at, 4):uint() then
    conn.trailer[from] = 4
    return 4
  end
  if looks_right(c.tvb, at, there) then
    conn.trailer[from] = 0
    return 0
  end
  return there == 4 and 4 or nil -- 4: damage, which decides nothing
end

-- late looks for the trailer of a frame that was shown without, at the beginning of the
-- bytes that came after it. It returns its length, or nil if more bytes have to come.
local function late(tvb, pinfo, tree, conn, from, len)
  local sum = conn.waiting[from]
  if not pinfo.visited and sum then
    if len < 4 and not looks_right(tvb, 0, len) then return nil end
    conn.waiting[from] = nil
    if len >= 4 and tvb(0, 4):uint() == sum then
      conn.trailer[from] = 4
      if conn.profile == UNKNOWN then conn.profile = CRATE end
      conn.late[pinfo.number] = true
    elseif looks_right(tvb, 0, math.min(len, 4)) then
      conn.trailer[from] = 0
    end
  end
  if not conn.late[pinfo.number] or len < 4 or looks_right(tvb, 0, 4) then return 0 end
  local t = tree:add(vstp, tvb(0, 4), "VSTP, trailer of the frame before")
  t:add(f.crc, tvb(0, 4))
  t:add(f["crc.status"], tvb(0, 4), CRC_GOOD):set_generated()
  return 4
end

-- learn finds the profile of a connection from its frames. §4.5, §6.1
local function learn(c, conn)
  if conn.profile ~= UNKNOWN then return end
  if c.type == HELLO then
    conn.profile = has_key(c, "\16") and NEGOTIATED or CRATE
  elseif c.type == WELCOME and has_key(c, "\16") then
    conn.profile = NEGOTIATED
  elseif c.trailer == 4 and not has(c.flags, CRC) and c.sum == c.tvb(c.off + c.body, 4):uint() then
    conn.profile = CRATE
  end
end

-- why_not says what is wrong with n bytes at off that do not look like a frame.
local function why_not(tvb, off, n)
  if n >= 3 and tvb(off, 2):uint() == 0x5654 then
    local v = tvb(off + 2, 1):uint()
    if v ~= 1 then return string.format("Unknown version %d of the frame (§2.1)", v) end
    if n >= 4 then return string.format("Unknown type %d (§2.2)", tvb(off + 3, 1):uint()) end
  end
  return "Not the beginning of a frame: this is no VSTP, or bytes are missing (§2.1)"
end

local function dissect_stream(tvb, pinfo, tree)
  local len = tvb:captured_len()
  local whole = len == tvb:reported_len()
  local conn, from = stream_state(pinfo)
  local off, lines = 0, {}
  -- more asks for n more bytes, or just for more.
  local function more(n)
    pinfo.desegment_offset = off
    pinfo.desegment_len = n or DESEGMENT_ONE_MORE_SEGMENT
    columns(pinfo, lines)
    return len
  end
  local can_wait = whole and pinfo.can_desegment > 0
  off = late(tvb, pinfo, tree, conn, from, len)
  if not off then
    off = 0
    if can_wait then return more(4 - len) end
  end
  while off < len do
    local left = len - off
    if not looks_right(tvb, off, math.min(left, 4)) then
      if off == 0 and not conn.seen then return 0 end -- TLS (§8.3), or something else at this port
      local t = tree:add(vstp, tvb(off, left), "VSTP, not the beginning of a frame")
      expert_at(t, e.lost, why_not(tvb, off, left))
      lines[#lines + 1] = "[not the beginning of a frame]"
      off = len
      break
    end
    if left < 11 then
      if can_wait then return more() end
      tree:add(vstp, tvb(off, left), "VSTP, not all captured")
      break
    end
    local c = fixed(tvb, off)
    c.profile = conn.profile
    if c.body > vstp.prefs.max_frame * 1048576 then
      local t = tree:add(vstp, tvb(off, left), "VSTP, a frame of " .. num(c.body) .. " bytes")
      expert_at(t, e.rule, "The frame is larger than the preference allows")
      lines[#lines + 1] = "[frame of " .. num(c.body) .. " bytes]"
      off = len
      break
    end
    if left >= c.body and (c.type == HELLO or c.type == WELCOME) then
      c.trailer = 0
      learn(c, conn)
    end
    c.trailer = trailer_of(c, conn, from, len, pinfo.number .. ":" .. off)
    if not c.trailer then
      if can_wait then return more(c.body + 4 - left) end
      c.trailer = 0
    end
    -- All at once: Wireshark does not find again what was asked for in two steps.
    if left < c.body + c.trailer and can_wait then return more(c.body + c.trailer - left) end
    if left >= c.body + c.trailer then learn(c, conn) end
    c.profile = conn.profile
    if c.profile ~= CRATE then -- packets, and what comes before them, §7.14
      local key, n = first_key(c)
      c.packet = c.type == DATA and key == "\1" and n == 12
      c.auto = c.packet or c.type == HELLO and has_key(c, "\29") or c.type == WELCOME and has_key(c, "\9")
    end
    lines[#lines + 1] = frame(c, pinfo, tree)
    conn.seen = true
    off = off + c.body + c.trailer
  end
  columns(pinfo, lines)
  return len
end

-- ---------------------------------------------------------------------------- datagrams

-- kind finds what a datagram is, §7.1: whether it is of the datagram profile, and whether
-- it is a packet of an association. It notes whether that is sealed.
local function kind(c)
  local key, n = first_key(c)
  if key == "\1" and n == 12 and c.type == DATA then
    c.sealed = has(c.flags, SEALED)
    return true, true
  end
  if n == 12 and c.hdr == 15 and c.flags % PHASE == SEALED
      and (key == "\1" and (c.type == HELLO or c.type == WELCOME) or key == "\24" and c.type == HELLO) then
    c.sealed, c.early = true, key == "\24"
    return true, true
  end
  if key == "\1" and n == 8 and (c.type == WELCOME or c.type == ERR) then return true, false end
  if key == "\24" and n == 8 and c.type == HELLO then return true, false end
  return false, false
end

local function dissect_datagram(tvb, pinfo, tree)
  local len = tvb:captured_len()
  if len < 11 or tvb(0, 2):uint() ~= 0x5654 then return 0 end
  if tvb(2, 1):uint() ~= 1 then
    expert_at(tree:add(vstp, tvb(0, len), "VSTP, unknown version"), e.lost, why_not(tvb, 0, len))
    columns(pinfo, { "[unknown version]" })
    return len
  end
  local c = fixed(tvb, 0)
  c.datagram = true
  local negotiated
  negotiated, c.packet = kind(c)
  c.profile = negotiated and NEGOTIATED or CRATE
  c.trailer = (not negotiated or has(c.flags, CRC)) and 4 or 0
  local size = tvb:reported_len()
  local wrong
  if size ~= c.body + c.trailer then
    wrong = string.format("The datagram has %d bytes, its frame %s (§7.1)", size, num(c.body + c.trailer))
    if not negotiated and size == c.body then c.trailer = 0 end
  end
  local line = frame(c, pinfo, tree)
  if wrong then
    expert_at(tree:add(vstp, tvb(0, len), "VSTP, wrong length"), e.malformed, wrong)
    line = line .. " [wrong length]"
  end
  columns(pinfo, { line })
  return len
end

-- ---------------------------------------------------------------------------- registration

local UDP = 3 -- of pinfo.port_type

function vstp.dissector(tvb, pinfo, tree)
  if pinfo.port_type == UDP then return dissect_datagram(tvb, pinfo, tree) end
  return dissect_stream(tvb, pinfo, tree)
end

-- By content: the beginning of a frame whose lengths can be; in a datagram, that fits.
local function by_content_stream(tvb, pinfo, tree)
  local n = tvb:captured_len()
  if not vstp.prefs.heuristic or n < 3 or not looks_right(tvb, 0, math.min(n, 4)) then return false end
  if n >= 5 and unknown_flags(tvb(4, 1):uint()) then return false end
  if n >= 11 and fixed(tvb, 0).body > vstp.prefs.max_frame * 1048576 then return false end
  pinfo.conversation = vstp
  dissect_stream(tvb, pinfo, tree)
  return true
end

local function by_content_datagram(tvb, pinfo, tree)
  if not vstp.prefs.heuristic or tvb:captured_len() < 11 or not looks_right(tvb, 0, 4) then return false end
  local body, size = fixed(tvb, 0).body, tvb:reported_len()
  if size ~= body and size ~= body + 4 then return false end
  pinfo.conversation = vstp
  dissect_datagram(tvb, pinfo, tree)
  return true
end

vstp:register_heuristic("tcp", by_content_stream)
vstp:register_heuristic("udp", by_content_datagram)

local tables = { DissectorTable.get("tcp.port"), DissectorTable.get("udp.port") }
local ports -- those registered now

local function register()
  if ports == vstp.prefs.ports then return end
  for _, t in ipairs(tables) do
    if ports then t:remove(ports, vstp) end
    t:add(vstp.prefs.ports, vstp)
  end
  ports = vstp.prefs.ports
end
vstp.prefs_changed = register
register()

-- Inside TLS, if Wireshark has the keys: by ALPN, §8.2.
pcall(function() DissectorTable.get("tls.alpn"):add("vstp/1", vstp) end)
pcall(function() vstp:register_heuristic("tls", by_content_stream) end)
pcall(function() DissectorTable.get("tls.port"):add_for_decode_as(vstp) end)
