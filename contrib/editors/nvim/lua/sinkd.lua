-- sinkd.lua: conversations of sinkd in Neovim, over one `sink --stdio`.
--
-- The bridge is one process an editor, newline-delimited JSON-RPC. A conversation is a buffer, sink://NAME: a view of
-- the daemon's log, drawn from `log` for what was said and from events for what is being said, whoever says it. Below
-- the line [you] stands the draft, the only part that can be changed. Text that streams is collected and drawn every
-- M.config.redraw milliseconds. Whatever is doubtful (a gap, lines that somebody deleted) is answered by drawing anew.
local M = {}

M.config = {
	cmd = { 'sink', '--stdio' },
	redraw = 40, -- milliseconds between two drawings of text that streams
	history = 200, -- messages that are loaded at once
}

local api, fn = vim.api, vim.fn
local DRAFT = '[you]'
local URI = 'sink://'
local LOOK_BACK = 4096 -- events in which the beginning of an answer is sought first

local bridge = nil -- { job, partial, said, calls, connected }
local last_id = 0
local conversations = {} -- by name
local latest = nil -- the conversation that was used last here
local space = api.nvim_create_namespace('sinkd')
local flush_waits = false

local function tell(text, level)
	vim.notify('sinkd: ' .. text, level or vim.log.levels.INFO)
end

-- Later, since an error that is shown inside a call of the API would end that call.
local function fail(text)
	vim.schedule(function()
		tell(text, vim.log.levels.ERROR)
	end)
end

-- Tells of an error, once.
local function fail_with(err)
	if not err.told then
		err.told = true
		fail(err.text)
	end
end

local function null(value)
	return value == nil or value == vim.NIL
end

-- The bridge --------------------------------------------------------------------------------------

local on_event, on_connection, on_bridge_end

local function on_line(line)
	local good, message = pcall(vim.json.decode, line)
	if not good or type(message) ~= 'table' then
		return fail('the bridge said what is no JSON: ' .. line:sub(1, 80))
	end
	if message.method == 'event' then
		return on_event(message.params)
	elseif message.method == 'connection' then
		return on_connection(message.params)
	end
	local call = bridge and not null(message.id) and bridge.calls[message.id]
	if not call then
		return
	end
	bridge.calls[message.id] = nil
	if not null(message.error) then
		local data = message.error.data
		call(nil, { text = message.error.message, code = not null(data) and data.code or 'eproto' })
	else
		call(message.result)
	end
end

local function start()
	if bridge then
		return bridge
	end
	local b = { partial = '', calls = {}, connected = true }
	local good, job = pcall(fn.jobstart, M.config.cmd, {
		on_stdout = function(_, data)
			b.partial = b.partial .. data[1]
			for i = 2, #data do
				local line = b.partial
				b.partial = data[i]
				if bridge == b and line ~= '' then
					on_line(line)
				end
			end
		end,
		on_stderr = function(_, data)
			for _, line in ipairs(data) do
				if line ~= '' then
					b.said = line
				end
			end
		end,
		on_exit = function(_, status)
			if bridge == b then
				bridge = nil
				on_bridge_end(b, status)
			end
		end,
	})
	if not good or job <= 0 then
		fail(('cannot start %s: the command is not there or cannot be run'):format(M.config.cmd[1]))
		return nil
	end
	b.job = job
	bridge = b
	return b
end

-- Sends a request; done(result) or done(nil, {code, text}) is called once, unless the bridge cannot be started.
local function call(method, params, done)
	local b = start()
	if not b then
		return false
	end
	last_id = last_id + 1
	b.calls[last_id] = done or function(_, err)
		if err then
			fail_with(err)
		end
	end
	params = next(params) and params or vim.empty_dict()
	local request = { jsonrpc = '2.0', id = last_id, method = method, params = params }
	if fn.chansend(b.job, vim.json.encode(request) .. '\n') == 0 then
		b.calls[last_id] = nil
		fail('the bridge takes nothing')
		return false
	end
	return true
end

-- Waits a moment for a reply: for completion, which cannot come later.
local function call_now(method, params)
	local result, ended
	local sent = call(method, params, function(answer)
		result, ended = answer, true
	end)
	if sent then
		vim.wait(1500, function()
			return ended
		end, 5)
	end
	return result
end

-- Drawing -----------------------------------------------------------------------------------------

local function alive(c)
	return c.buf and api.nvim_buf_is_loaded(c.buf)
end

-- Changes the buffer of a conversation; its history of changes begins anew, since it knows of other places.
local function change(c, what)
	local bo = vim.bo[c.buf]
	local modifiable, levels = bo.modifiable, bo.undolevels
	bo.modifiable = true
	bo.undolevels = -1
	what(c.buf)
	bo.undolevels = levels
	bo.modifiable = modifiable
	bo.modified = false
end

local function draft_of(c)
	local lines = api.nvim_buf_get_lines(c.buf, 0, -1, false)
	for i = #lines, 1, -1 do
		if lines[i]:sub(1, #DRAFT) == DRAFT then
			local rest = lines[i]:sub(#DRAFT + 1)
			local draft = vim.list_slice(lines, i + 1)
			if rest ~= '' then
				draft[1] = rest .. (draft[1] or '')
			end
			return draft
		end
	end
	return {}
end

-- Whether the line above the draft is where it should be: else somebody deleted across it.
local function sound(c)
	return api.nvim_buf_get_lines(c.buf, c.top, c.top + 1, false)[1] == DRAFT
end

-- The window's cursor decides whether the buffer can be changed: only below [you].
local function guard(c)
	if alive(c) and api.nvim_get_current_buf() == c.buf then
		vim.bo[c.buf].modifiable = api.nvim_win_get_cursor(0)[1] > c.top + 1
	end
end

local function lines_of(text)
	return vim.split((text:gsub('%z', '^@')), '\n', { plain = true })
end

local function draw_message(c, at, number, role, text)
	local lines = lines_of(text)
	table.insert(lines, 1, ('[%d] %s'):format(number, role))
	table.insert(lines, '')
	api.nvim_buf_set_lines(c.buf, at, at, false, lines)
	return #lines
end

local function append_message(c, number, role, text)
	change(c, function()
		local size = draw_message(c, c.top, number, role, text)
		table.insert(c.messages, { number = number, line = c.top })
		c.top = c.top + size
	end)
	c.open = role == 'assistant' and number or nil
end

local function append_text(c, text)
	change(c, function(buf)
		local row = c.top - 2
		local column = #api.nvim_buf_get_lines(buf, row, row + 1, false)[1]
		local lines = lines_of(text)
		api.nvim_buf_set_text(buf, row, column, row, column, lines)
		c.top = c.top + #lines - 1
	end)
end

-- Takes the messages from this number on out of the buffer.
local function cut(c, number)
	for i, message in ipairs(c.messages) do
		if message.number >= number then
			change(c, function(buf)
				api.nvim_buf_set_lines(buf, message.line, c.top, false, {})
			end)
			c.top = message.line
			c.messages = vim.list_slice(c.messages, 1, i - 1)
			break
		end
	end
	c.open = nil
end

local function older_line(count)
	return ('[older] %d earlier messages: <CR> here loads more'):format(count)
end

-- Empties the buffer but for the draft.
local function clear(c, draft)
	c.messages, c.top, c.open, c.pending = {}, 0, nil, nil
	c.drawing, c.older = c.drawing + 1, false
	change(c, function(buf)
		local lines = { DRAFT }
		vim.list_extend(lines, #draft > 0 and draft or { '' })
		api.nvim_buf_set_lines(buf, 0, -1, false, lines)
	end)
end

function M.status(buf)
	local c = M.conversation(buf)
	if not c then
		return ''
	end
	local words = { c.name }
	local info = c.info or {}
	if bridge and not bridge.connected then
		table.insert(words, 'reconnecting')
	elseif not bridge then
		table.insert(words, 'no bridge')
	elseif c.missing then
		table.insert(words, 'new')
	elseif c.reading then
		table.insert(words, 'reading ' .. c.reading)
	elseif c.answer and not c.answer.done then
		table.insert(words, ('answering %d'):format(c.answer.tokens))
	elseif not c.ready then
		table.insert(words, 'loading')
	else
		table.insert(words, info.state or 'idle')
	end
	if not c.missing and info.tokens then
		table.insert(words, ('%d tokens'):format(info.tokens))
		table.insert(words, ('window %d'):format(info.window))
		if info.evicted > 0 then
			table.insert(words, ('evicted %d'):format(info.evicted))
		end
	end
	return table.concat(words, ' · ')
end

local function show_status(c)
	if not alive(c) then
		return
	end
	if fn.bufwinid(c.buf) > 0 then
		vim.cmd('redrawstatus!')
	end
	if sound(c) then
		c.mark = api.nvim_buf_set_extmark(c.buf, space, c.top, 0, {
			id = c.mark,
			virt_text = { { M.status(c.buf), 'Comment' } },
			virt_text_pos = 'eol',
		})
	end
end

-- Answers that are put into place -----------------------------------------------------------------

local function insert_end(c, why)
	local insert = c.insert
	c.insert = nil
	if insert and api.nvim_buf_is_valid(insert.buf) then
		api.nvim_buf_del_extmark(insert.buf, space, insert.mark)
		if insert.first then
			api.nvim_buf_del_extmark(insert.buf, space, insert.first)
		end
	end
	if insert and why then
		fail(why)
	end
end

-- Where the next piece goes. The first one makes the place: a line below the lines that were sent, or instead of them.
local function insert_place(insert)
	local function place(mark)
		return unpack(api.nvim_buf_get_extmark_by_id(insert.buf, space, mark, {}))
	end
	local row, column = place(insert.mark)
	if insert.first then
		local first_row, first_column = place(insert.first)
		api.nvim_buf_set_text(insert.buf, first_row, first_column, row, column, { '' })
		api.nvim_buf_del_extmark(insert.buf, space, insert.first)
	elseif insert.below then
		api.nvim_buf_set_text(insert.buf, row, column, row, column, { '', '' })
	end
	insert.first, insert.below = nil, nil
	return place(insert.mark)
end

local function insert_text(c)
	local insert = c.insert
	local text = table.concat(insert.pending)
	insert.pending = {}
	if text == '' then
		return
	end
	if not api.nvim_buf_is_loaded(insert.buf) or not vim.bo[insert.buf].modifiable then
		return insert_end(c, 'the answer has no place any more; it goes on in ' .. URI .. c.name)
	end
	api.nvim_buf_call(insert.buf, function()
		-- One step for undo, as long as nobody else changes the buffer meanwhile.
		if insert.tick == api.nvim_buf_get_changedtick(insert.buf) then
			pcall(vim.cmd, 'undojoin')
		end
		local row, column = insert_place(insert)
		api.nvim_buf_set_text(insert.buf, row, column, row, column, lines_of(text))
		insert.tick = api.nvim_buf_get_changedtick(insert.buf)
	end)
end

-- What streams ------------------------------------------------------------------------------------

local reload

local function flush(c)
	if alive(c) and c.pending then
		local text = table.concat(c.pending)
		c.pending = nil
		if not sound(c) then
			return reload(c)
		end
		append_text(c, text)
	end
	if c.insert then
		insert_text(c)
	end
	show_status(c)
end

local function flush_soon()
	if flush_waits then
		return
	end
	flush_waits = true
	vim.defer_fn(function()
		flush_waits = false
		for _, c in pairs(conversations) do
			flush(c)
		end
	end, M.config.redraw)
end

local function refresh(c)
	call('show', { conversation = c.name }, function(result)
		if result then
			c.info = result.conversation
			show_status(c)
		end
	end)
end

local function insert_take(c)
	local insert, answer = c.insert, c.answer
	if insert and answer and insert.message == answer.message then
		vim.list_extend(insert.pending, answer.pieces)
		answer.pieces = {}
		if answer.done then
			insert_text(c)
			insert_end(c, answer.done == 'error' and 'the answer ended with an error' or nil)
		end
	end
end

local handlers = {}

function handlers.message(c, event)
	flush(c)
	append_message(c, event.message, event.role, event.text)
end

function handlers.answer(c, event)
	flush(c)
	c.reading = nil
	c.answer = { message = event.message, tokens = 0, pieces = {} }
	append_message(c, event.message, 'assistant', '')
	refresh(c)
end

function handlers.prefill(c, event)
	c.reading = event.done < event.total and ('%d/%d'):format(event.done, event.total) or nil
	flush_soon()
end

function handlers.text(c, event)
	if c.open ~= event.message then
		return
	end
	c.pending = c.pending or {}
	table.insert(c.pending, event.text)
	c.answer.tokens = c.answer.tokens + event.tokens
	if c.insert then
		table.insert(c.answer.pieces, event.text)
		insert_take(c)
	end
	flush_soon()
end

function handlers.done(c, event)
	c.reading = nil
	if c.answer and c.answer.message == event.message then
		c.answer.done = event.finish
		insert_take(c)
	end
	flush(c)
	refresh(c)
end

function handlers.rewound(c, event)
	flush(c)
	cut(c, event.messages)
	c.reading, c.answer = nil, nil
	refresh(c)
end

function handlers.error(c, event)
	fail(c.name .. ': ' .. event.text)
	if event.code == 'egone' then
		reload(c)
	else
		refresh(c)
	end
end

function handlers.unsaved(c, event)
	tell(c.name .. ': ' .. event.text, vim.log.levels.WARN)
end

function handlers.renamed(c, event)
	local old = c.name
	conversations[old] = nil
	c.name = event.to
	conversations[c.name] = c
	api.nvim_buf_set_name(c.buf, URI .. c.name)
	-- Neovim keeps the old name as a buffer of its own.
	for _, buf in ipairs(api.nvim_list_bufs()) do
		if buf ~= c.buf and api.nvim_buf_get_name(buf) == URI .. old then
			pcall(api.nvim_buf_delete, buf, { force = true })
		end
	end
	refresh(c)
end

function handlers.removed(c)
	insert_end(c, 'the conversation was removed in mid-answer')
	c.ready, c.missing, c.answer, c.reading = false, true, nil, nil
	tell(c.name .. ' was removed')
	show_status(c)
end

on_event = function(event)
	if null(event.conversation) then
		return
	end
	local c = conversations[event.conversation]
	if not c or not c.attached or not alive(c) then
		return
	end
	if event.ev == 'error' and event.code == 'egone' then
		return handlers.error(c, event)
	end
	if event.ev == 'ended' then
		fail(c.name .. ': ' .. event.text)
		return reload(c)
	end
	if event.seq < c.next then
		return
	elseif event.seq > c.next then
		return reload(c)
	end
	c.next = event.seq + 1
	-- Of what was before the moment of `show`, only the answer that was being written then is not drawn yet.
	if event.seq < c.since and (event.message ~= c.wanted or (event.ev ~= 'answer' and event.ev ~= 'text')) then
		return
	end
	if event.seq >= c.since and c.wanted and not c.answer and (event.ev == 'text' or event.ev == 'done') then
		c.far = true -- the answer begins further back
		return reload(c)
	end
	if not sound(c) then
		return reload(c)
	end
	local handler = handlers[event.ev]
	if handler then
		handler(c, event)
		guard(c)
	end
end

on_connection = function(params)
	local lost = params.state == 'lost'
	if bridge.connected == not lost then
		return
	end
	bridge.connected = not lost
	tell(lost and 'the daemon is gone; waiting for it' or 'the daemon is back')
	for _, c in pairs(conversations) do
		show_status(c)
		if not lost and c.ready then
			-- A daemon that lost what was never saved is behind us.
			call('show', { conversation = c.name }, function(result)
				if result and result.conversation.seq < c.next then
					reload(c)
				elseif result then
					c.info = result.conversation
					show_status(c)
				end
			end)
		end
	end
end

on_bridge_end = function(b, status)
	local said = b.said and (': ' .. b.said) or ''
	local text = ('%s ended with status %d%s'):format(table.concat(M.config.cmd, ' '), status, said)
	local err = { text = text, code = 'econn' }
	fail_with(err)
	for _, done in pairs(b.calls) do
		done(nil, err)
	end
	for _, c in pairs(conversations) do
		insert_end(c)
		c.ready, c.attached, c.loading = false, false, false
		show_status(c)
	end
end

-- Loading -----------------------------------------------------------------------------------------

-- Those that waited go on, with an error or without.
local function loaded(c, err)
	local waiting = c.waiting
	c.loading, c.waiting = false, {}
	if err then
		fail_with(err)
	end
	show_status(c)
	guard(c)
	for _, continue in ipairs(waiting) do
		continue(err)
	end
end

-- Draws messages [from, to) at the line `at`, in pieces; then goes on.
local function load_messages(c, from, to, at, continue)
	if from >= to then
		return continue()
	end
	local count, drawing = math.min(to - from, 50), c.drawing
	call('log', { conversation = c.name, from = from, count = count }, function(result, err)
		if not alive(c) or c.drawing ~= drawing then
			return
		elseif err then
			return loaded(c, err)
		elseif #result.messages == 0 then
			return continue()
		end
		local entries, size = {}, 0
		change(c, function()
			for _, message in ipairs(result.messages) do
				table.insert(entries, { number = message.message, line = at + size })
				size = size + draw_message(c, at + size, message.message, message.role, message.text)
			end
		end)
		local before = #vim.tbl_filter(function(m)
			return m.line < at
		end, c.messages)
		for i = before + 1, #c.messages do
			c.messages[i].line = c.messages[i].line + size
		end
		for i, entry in ipairs(entries) do
			table.insert(c.messages, before + i, entry)
		end
		c.top = c.top + size
		load_messages(c, from + #result.messages, to, at + size, continue)
	end)
end

local function attach(c)
	local info = c.info
	local from = info.seq
	c.since, c.wanted = info.seq, nil
	if not null(info.answer) and info.state == 'answering' then
		c.wanted = info.answer
		from = c.far and info.first_seq or math.max(info.first_seq, info.seq - LOOK_BACK)
	end
	c.far, c.answer = nil, nil
	call('attach', { conversation = c.name, from = from }, function(result, err)
		if not alive(c) then
			return
		elseif err and err.code == 'egone' then
			c.loading = false
			return reload(c)
		elseif err then
			return loaded(c, err)
		end
		c.attached, c.ready, c.next = true, true, result.seq
		loaded(c)
	end)
end

-- Draws the conversation anew, and follows it.
reload = function(c)
	if c.loading or not alive(c) then
		return
	end
	c.loading, c.ready, c.attached, c.missing = true, false, false, false
	clear(c, draft_of(c))
	local sent = call('show', { conversation = c.name }, function(result, err)
		if not alive(c) then
			return
		elseif err and err.code == 'enoent' then
			c.missing = true
			return loaded(c)
		elseif err then
			return loaded(c, err)
		end
		c.info = result.conversation
		local to = null(c.info.answer) and c.info.messages or c.info.answer
		local from = math.max(0, to - M.config.history)
		if from > 0 then
			change(c, function(buf)
				api.nvim_buf_set_lines(buf, 0, 0, false, { older_line(from) })
			end)
			c.top = 1
		end
		load_messages(c, from, to, c.top, function()
			attach(c)
		end)
	end)
	if not sent then
		c.loading = false
	end
end

local function load_older(c)
	local first = c.messages[1] and c.messages[1].number or 0
	if first == 0 or not c.ready or c.older then
		return
	end
	c.older = true
	local from = math.max(0, first - M.config.history)
	change(c, function(buf)
		api.nvim_buf_set_lines(buf, 0, 1, false, from > 0 and { older_line(from) } or {})
	end)
	if from == 0 then
		c.top = c.top - 1
		for _, message in ipairs(c.messages) do
			message.line = message.line - 1
		end
	end
	load_messages(c, from, first, from > 0 and 1 or 0, function()
		c.older = false
	end)
end

-- Buffers -----------------------------------------------------------------------------------------

-- The conversation of a buffer (the current one without), or nil.
function M.conversation(buf)
	buf = (buf == nil or buf == 0) and api.nvim_get_current_buf() or buf
	for _, c in pairs(conversations) do
		if c.buf == buf then
			return c
		end
	end
end

local function closed(c)
	insert_end(c)
	if bridge and c.attached then
		-- Its number may be another one since; attaching again tells it.
		call('attach', { conversation = c.name }, function(result)
			if result then
				call('detach', { attachment = result.attachment }, function() end)
			end
		end)
	end
	conversations[c.name] = nil
	if latest == c then
		latest = nil
	end
end

local function on_buffer(c, events, what)
	api.nvim_create_autocmd(events, {
		group = c.group,
		buffer = c.buf,
		callback = function()
			what(c)
		end,
	})
end

-- Makes a buffer the view of a conversation; drawn anew when it is one already.
local function adopt(name, buf)
	local c = conversations[name]
	if c and c.buf == buf then
		reload(c)
		return c
	end
	c = { name = name, buf = buf, messages = {}, top = 0, next = 0, since = 0, waiting = {}, drawing = 0 }
	conversations[name] = c
	vim.cmd('noautocmd call bufload(' .. buf .. ')')
	for option, value in pairs({ buftype = 'nofile', bufhidden = 'hide', swapfile = false, filetype = 'sinkd' }) do
		vim.bo[buf][option] = value
	end
	vim.bo[buf].syntax = 'markdown'
	clear(c, {})
	c.group = api.nvim_create_augroup('sinkd-' .. buf, {})
	vim.keymap.set('n', '<CR>', M.enter, { buffer = buf, desc = 'say the draft' })
	on_buffer(c, { 'CursorMoved', 'CursorMovedI', 'BufEnter' }, guard)
	on_buffer(c, 'BufEnter', function()
		latest = c
	end)
	on_buffer(c, { 'TextChanged', 'TextChangedI' }, function()
		if c.ready and not sound(c) then
			reload(c)
		end
	end)
	on_buffer(c, 'BufUnload', closed)
	reload(c)
	return c
end

-- The conversation of this name, with a buffer that need not be seen.
local function conversation_of(name)
	local c = conversations[name]
	if c and alive(c) then
		if not c.ready and not c.loading and not c.missing then
			reload(c)
		end
		return c
	end
	conversations[name] = nil
	local buf = fn.bufadd(URI .. name)
	vim.bo[buf].buflisted = true
	return adopt(name, buf)
end

-- Calls continue() when the conversation is drawn and followed, or continue(err), of which was told; it is made when it
-- is missing.
local function when_ready(c, continue)
	if not c.loading and not c.ready and not c.missing then
		reload(c)
	end
	if c.loading then
		table.insert(c.waiting, function(err)
			if err then
				return continue(err)
			end
			when_ready(c, continue)
		end)
	elseif c.ready then
		continue()
	elseif c.missing then
		local sent = call('new', { name = c.name }, function(_, err)
			if err and err.code ~= 'eexist' then
				fail_with(err)
				return continue(err)
			end
			c.missing = false
			when_ready(c, continue)
		end)
		if not sent then
			continue({ told = true })
		end
	else
		continue({ told = true }) -- there is no bridge
	end
end

-- Calls continue(c) with the conversation that a command without a name means: that of the buffer, the one used last
-- here, the one used last at all, or a new one.
local function with_target(continue)
	local c = M.conversation() or (latest and alive(latest) and latest)
	if c then
		return continue(c)
	end
	call('list', {}, function(result, err)
		if err then
			return fail_with(err)
		elseif result.conversations[1] then
			return continue(conversation_of(result.conversations[1].name))
		end
		call('new', {}, function(made, refused)
			if refused then
				return fail_with(refused)
			end
			continue(conversation_of(made.conversation.name))
		end)
	end)
end

local function visit(c, mods)
	if mods and mods ~= '' then
		vim.cmd(mods .. ' split')
	elseif vim.bo.modified and not vim.o.hidden and vim.bo.buftype == '' then
		vim.cmd('split')
	end
	api.nvim_win_set_buf(0, c.buf)
	vim.wo.wrap, vim.wo.linebreak = true, true
	api.nvim_win_set_cursor(0, { api.nvim_buf_line_count(c.buf), 0 })
	latest = c
	guard(c)
end

-- What commands do --------------------------------------------------------------------------------

function M.setup(config)
	for key, value in pairs(config or {}) do
		if M.config[key] == nil then
			fail('setup() knows no ' .. key)
		end
		M.config[key] = value
	end
end

function M.open(name, mods)
	if name and name ~= '' then
		return visit(conversation_of(name), mods)
	end
	with_target(function(c)
		visit(c, mods)
	end)
end

-- The text of lines behind a prompt, fenced so that it ends where it ends.
local function with_lines(prompt, lines, filetype)
	local text = table.concat(lines, '\n')
	if prompt == '' then
		return text
	end
	local fence = '```'
	while text:find(fence, 1, true) do
		fence = fence .. '`'
	end
	return ('%s\n\n%s%s\n%s\n%s'):format(prompt, fence, filetype, text, fence)
end

local function set_draft(c, lines)
	change(c, function(buf)
		api.nvim_buf_set_lines(buf, c.top + 1, -1, false, lines)
	end)
end

local function put_back(c, draft)
	if alive(c) then
		local now = draft_of(c)
		set_draft(c, #now == 1 and now[1] == '' and draft or vim.list_extend(vim.list_slice(draft), now))
	end
end

-- Says it; done(result) or done(nil, err), of which was told.
local function say(c, text, done)
	latest = c
	when_ready(c, function(err)
		if err then
			return done(nil, err)
		end
		call('say', { conversation = c.name, text = text }, function(result, refused)
			if refused then
				fail_with(refused)
			end
			done(result, refused)
		end)
	end)
end

-- Says the draft below [you].
function M.send_draft()
	local c = M.conversation()
	local draft = draft_of(c)
	local text = table.concat(draft, '\n'):gsub('^%s*\n', ''):gsub('%s+$', '')
	if text == '' then
		return fail('there is nothing below [you] to say')
	end
	set_draft(c, { '' })
	say(c, text, function(_, err)
		if err then
			put_back(c, draft)
		end
	end)
end

-- <CR> in a conversation.
function M.enter()
	local c = M.conversation()
	if api.nvim_win_get_cursor(0)[1] == 1 and api.nvim_get_current_line():find('^%[older%]') then
		return load_older(c)
	end
	M.send_draft()
end

-- Says `text`; with `lines` these too, fenced behind it.
function M.send(text, lines)
	if not lines and text == '' then
		if M.conversation() then
			return M.send_draft()
		end
		return fail('there is nothing to say: give a range or a text')
	end
	local whole = lines and with_lines(text, lines, vim.bo.filetype) or text
	with_target(function(c)
		say(c, whole, function() end)
	end)
end

-- The lines of the latest visual selection, cut at its ends.
function M.selection()
	local from, to = fn.getpos("'<"), fn.getpos("'>")
	local lines = api.nvim_buf_get_lines(0, from[2] - 1, to[2], false)
	if #lines > 0 and fn.visualmode() == 'v' then
		local last = lines[#lines]
		-- The whole of the last character, which may have several bytes.
		local final = to[3] > #last and #last or to[3] + #fn.matchstr(last:sub(to[3]), '.') - 1
		lines[#lines] = last:sub(1, final)
		lines[1] = lines[1]:sub(from[3])
	end
	return lines
end

function M.send_selection()
	M.send(fn.input('Prompt: '), M.selection())
end

-- Where an answer without lines goes: at the cursor, or behind the line when the cursor stands on its last character.
local function cursor_place()
	local row, column = unpack(api.nvim_win_get_cursor(0))
	local line = api.nvim_get_current_line()
	if fn.mode() == 'n' and column > 0 and column + #fn.matchstr(line:sub(column + 1), '.') >= #line then
		column = #line
	end
	return row - 1, column
end

-- Asks, and streams the answer into this buffer: at the cursor, below lines first..last, or instead of them.
function M.insert(prompt, first, last, replace)
	local buf = api.nvim_get_current_buf()
	if M.conversation(buf) or not vim.bo.modifiable then
		return fail('an answer cannot be put into this buffer')
	elseif prompt == '' and not first then
		return fail('there is nothing to say: give a range or a text')
	end
	local insert = { buf = buf, pending = {} }
	vim.bo.undolevels = vim.bo.undolevels -- setting it ends a step for undo
	local text = prompt
	if first then
		local lines = api.nvim_buf_get_lines(buf, first - 1, last, false)
		text = with_lines(prompt, lines, vim.bo.filetype)
		insert.mark = api.nvim_buf_set_extmark(buf, space, last - 1, #lines[#lines], {})
		insert.below = not replace
		insert.first = replace and api.nvim_buf_set_extmark(buf, space, first - 1, 0, { right_gravity = false }) or nil
	else
		local row, column = cursor_place()
		insert.mark = api.nvim_buf_set_extmark(buf, space, row, column, {})
	end
	with_target(function(c)
		if c.insert then
			return fail(c.name .. ' is answering into another place; :SinkStop ends that')
		end
		c.insert = insert
		say(c, text, function(result, err)
			if c.insert ~= insert then
				return
			elseif err then
				return insert_end(c)
			end
			insert.message = result.message + 1
			insert_take(c)
		end)
	end)
end

-- Stops the answer that goes into this buffer, else that of the conversation.
function M.stop()
	local buf = api.nvim_get_current_buf()
	for _, c in pairs(conversations) do
		if c.insert and c.insert.buf == buf then
			return call('stop', { conversation = c.name })
		end
	end
	with_target(function(c)
		call('stop', { conversation = c.name })
	end)
end

-- The number of the message under the cursor, or nil.
local function message_here(c)
	if M.conversation() ~= c then
		return nil
	end
	local row, number = api.nvim_win_get_cursor(0)[1] - 1, nil
	for _, message in ipairs(c.messages) do
		if message.line <= row and row < c.top then
			number = message.number
		end
	end
	return number
end

-- Forks the conversation, with `here` only the messages before that under the cursor; the fork is opened.
function M.fork(to, here, mods)
	with_target(function(c)
		local message = here and message_here(c) or nil
		if here and not message then
			return fail('there is no message under the cursor')
		end
		local function fork(name, try)
			call('fork', { conversation = c.name, to = name, message = message }, function(result, err)
				if err and err.code == 'eexist' and to == '' and try < 100 then
					return fork(('%s-%d'):format(c.name, try + 1), try + 1)
				elseif err then
					return fail_with(err)
				end
				visit(conversation_of(result.conversation.name), mods)
			end)
		end
		fork(to ~= '' and to or c.name .. '-2', 2)
	end)
end

-- As with_target(), but when it is not just being drawn: what is asked then has events that are seen.
local function settled(continue)
	with_target(function(c)
		if not c.loading then
			return continue(c)
		end
		table.insert(c.waiting, function(err)
			if not err then
				continue(c)
			end
		end)
	end)
end

function M.rename(to)
	settled(function(c)
		call('rename', { conversation = c.name, to = to })
	end)
end

-- Forgets the messages from this number on; without a number from the one under the cursor.
function M.rewind(number)
	settled(function(c)
		local message = tonumber(number) or (number == '' and message_here(c))
		if not message then
			return fail(number == '' and 'there is no message under the cursor' or '"' .. number .. '" is no number')
		end
		call('rewind', { conversation = c.name, message = message })
	end)
end

-- The list ----------------------------------------------------------------------------------------

local list_buf = nil

local function draw_list(result)
	local lines = { ('%-24s %-10s %6s %8s %8s %9s'):format('NAME', 'STATE', 'MSGS', 'TOKENS', 'WINDOW', 'EVICTED') }
	local names = {}
	for _, info in ipairs(result.conversations) do
		table.insert(names, info.name)
		local pad = string.rep(' ', 24 - fn.strdisplaywidth(info.name))
		table.insert(lines, ('%s%s %-10s %6d %8d %8d %9d'):format(info.name, pad, info.state, info.messages,
			info.tokens, info.window, info.evicted))
	end
	vim.bo[list_buf].modifiable = true
	api.nvim_buf_set_lines(list_buf, 0, -1, false, lines)
	vim.bo[list_buf].modifiable = false
	vim.b[list_buf].sinkd_names = names
end

local function fill_list()
	call('list', {}, function(result, err)
		if err then
			return fail_with(err)
		elseif api.nvim_buf_is_loaded(list_buf) then
			draw_list(result)
		end
	end)
end

function M.list_open()
	local name = (vim.b.sinkd_names or {})[api.nvim_win_get_cursor(0)[1] - 1]
	if name then
		M.open(name)
	end
end

-- The conversations, in a buffer: <CR> opens one, R looks again.
function M.list(mods)
	if not list_buf or not api.nvim_buf_is_valid(list_buf) then
		list_buf = api.nvim_create_buf(false, true)
		api.nvim_buf_set_name(list_buf, 'sink-list')
		vim.bo[list_buf].filetype = 'sinkd-list'
		vim.keymap.set('n', '<CR>', M.list_open, { buffer = list_buf, desc = 'open the conversation' })
		vim.keymap.set('n', 'R', fill_list, { buffer = list_buf, desc = 'look again' })
	end
	if mods and mods ~= '' then
		vim.cmd(mods .. ' split')
	end
	api.nvim_win_set_buf(0, list_buf)
	fill_list()
end

-- Names of conversations for the command line. A name may have blanks, of which completion sees the last word alone.
function M.complete(lead, line)
	local result = call_now('list', {})
	local typed = line:match('%a+!?%s+(.*)$') or lead
	local names = {}
	for _, info in ipairs(result and result.conversations or {}) do
		if info.name:sub(1, #typed) == typed then
			table.insert(names, info.name:sub(#typed - #lead + 1))
		end
	end
	return names
end

-- A buffer sink://NAME that is opened by its name.
function M.read(buf)
	local name = api.nvim_buf_get_name(buf):sub(#URI + 1)
	if name ~= '' then
		adopt(name, buf)
	end
end

return M
