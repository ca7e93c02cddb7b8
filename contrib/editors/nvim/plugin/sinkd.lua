-- Commands of sinkd for Neovim; what they do is in lua/sinkd.lua, which is read when the first of them is used.
if vim.g.loaded_sinkd then
	return
end
vim.g.loaded_sinkd = 1

local command = vim.api.nvim_create_user_command

local function sinkd()
	return require('sinkd')
end

local function complete(lead, line)
	return sinkd().complete(lead, line)
end

local function lines_of(o)
	return o.range > 0 and vim.api.nvim_buf_get_lines(0, o.line1 - 1, o.line2, false) or nil
end

command('Sink', function(o)
	sinkd().open(o.args, o.mods)
end, { nargs = '?', complete = complete, desc = 'open a conversation' })

command('SinkSend', function(o)
	sinkd().send(o.args, lines_of(o))
end, { nargs = '?', range = true, desc = 'say lines, a text, or the draft' })

command('SinkInsert', function(o)
	sinkd().insert(o.args, o.range > 0 and o.line1 or nil, o.line2, o.bang)
end, { nargs = '?', range = true, bang = true, desc = 'put an answer into place' })

command('SinkStop', function()
	sinkd().stop()
end, { desc = 'stop the answer' })

command('SinkFork', function(o)
	sinkd().fork(o.args, o.bang, o.mods)
end, { nargs = '?', bang = true, complete = complete, desc = 'fork the conversation' })

command('SinkRename', function(o)
	sinkd().rename(o.args)
end, { nargs = 1, complete = complete, desc = 'rename the conversation' })

command('SinkRewind', function(o)
	sinkd().rewind(o.args)
end, { nargs = '?', desc = 'forget the messages from one on' })

command('SinkList', function(o)
	sinkd().list(o.mods)
end, { desc = 'list the conversations' })

vim.keymap.set('x', '<Plug>(SinkSend)', ":<C-U>lua require('sinkd').send_selection()<CR>", { silent = true })

vim.api.nvim_create_autocmd('BufReadCmd', {
	group = vim.api.nvim_create_augroup('sinkd', {}),
	pattern = 'sink://*',
	callback = function(o)
		sinkd().read(o.buf)
	end,
})
