" sinkd.vim: conversations of sinkd in Vim, over one `sink --stdio`.
"
" The bridge is one process an editor, newline-delimited JSON-RPC on a channel. A conversation is a buffer, sink://NAME:
" a view of the daemon's log, drawn from `log` for what was said and from events for what is being said, whoever says
" it. Below the line [you] stands the draft, the only part that can be changed. Text that streams is collected and drawn
" every g:sinkd_redraw milliseconds. Whatever is doubtful (a gap, lines that somebody deleted) is answered by drawing
" anew.

let s:draft = '[you]'
let s:uri = 'sink://'
" Events in which the beginning of an answer is sought first.
let s:look_back = 4096

" The bridge: {job, channel, said, calls, connected}, or empty.
let s:bridge = {}
let s:last_id = 0
" Conversations by name, and the one that was used last here.
let s:conversations = {}
let s:latest = {}
let s:flush_waits = 0
let s:last_mark = 0

function! s:option(name, default) abort
	return get(g:, 'sinkd_' . a:name, a:default)
endfunction

function! s:tell(text) abort
	echomsg 'sinkd: ' . a:text
endfunction

function! s:fail(text) abort
	echohl ErrorMsg
	echomsg 'sinkd: ' . a:text
	echohl None
endfunction

" Tells of an error, once.
function! s:fail_with(error) abort
	if !get(a:error, 'told')
		let a:error.told = 1
		call s:fail(a:error.text)
	endif
endfunction

function! s:null(value) abort
	return a:value is v:null
endfunction

" ---- the bridge ----

function! s:on_line(bridge, channel, line) abort
	if a:bridge isnot s:bridge
		return
	endif
	try
		let message = json_decode(a:line)
	catch
		let message = v:null
	endtry
	if type(message) != v:t_dict
		return s:fail('the bridge said what is no JSON: ' . a:line[:79])
	endif
	let method = get(message, 'method', '')
	if method ==# 'event'
		return s:on_event(message.params)
	elseif method ==# 'connection'
		return s:on_connection(message.params)
	endif
	let id = get(message, 'id', v:null)
	if s:null(id) || !has_key(s:bridge.calls, id)
		return
	endif
	let Done = remove(s:bridge.calls, id)
	let error = get(message, 'error', v:null)
	if s:null(error)
		call Done(message.result, {})
	else
		let data = get(error, 'data', v:null)
		call Done({}, {'text': error.message, 'code': s:null(data) ? 'eproto' : get(data, 'code', 'eproto')})
	endif
endfunction

function! s:on_error_line(bridge, channel, line) abort
	if !empty(a:line)
		let a:bridge.said = a:line
	endif
endfunction

" What it said last may come a moment after its end.
function! s:on_exit(bridge, job, status) abort
	call timer_start(50, {_ -> s:on_bridge_end(a:bridge, a:status)})
endfunction

function! s:start() abort
	if !empty(s:bridge)
		return 1
	endif
	let command = s:option('cmd', ['sink', '--stdio'])
	if !has('job') || !has('timers') || !has('textprop')
		call s:fail('this Vim lacks +job, +timers or +textprop')
		return 0
	elseif !executable(command[0])
		call s:fail(printf('cannot start %s: the command is not there or cannot be run', command[0]))
		return 0
	endif
	let bridge = {'said': '', 'calls': {}, 'connected': 1}
	let s:bridge = bridge
	let bridge.job = job_start(command, {
		\ 'mode': 'nl',
		\ 'out_cb': function('s:on_line', [bridge]),
		\ 'err_cb': function('s:on_error_line', [bridge]),
		\ 'exit_cb': function('s:on_exit', [bridge]),
		\ })
	let bridge.channel = job_getchannel(bridge.job)
	return 1
endfunction

function! s:told(result, error) abort
	if !empty(a:error)
		call s:fail_with(a:error)
	endif
endfunction

" Sends a request; Done(result, error), one of them empty, is called once, unless the bridge cannot be started.
function! s:call(method, params, ...) abort
	if !s:start()
		return 0
	endif
	let s:last_id += 1
	let s:bridge.calls[s:last_id] = a:0 ? a:1 : function('s:told')
	let request = {'jsonrpc': '2.0', 'id': s:last_id, 'method': a:method, 'params': a:params}
	try
		call ch_sendraw(s:bridge.channel, json_encode(request) . "\n")
	catch
		if has_key(s:bridge.calls, s:last_id)
			call remove(s:bridge.calls, s:last_id)
		endif
		call s:fail('the bridge takes nothing')
		return 0
	endtry
	return 1
endfunction

" Waits a moment for a reply: for completion, which cannot come later.
function! s:call_now(method, params) abort
	let answer = {}
	if s:call(a:method, a:params, {result, error -> extend(answer, {'ended': 1, 'result': result})})
		let began = reltime()
		while !has_key(answer, 'ended') && !empty(s:bridge) && reltimefloat(reltime(began)) < 1.5
			sleep 5m
		endwhile
	endif
	return get(answer, 'result', {})
endfunction

" ---- drawing ----

function! s:alive(c) abort
	return bufloaded(a:c.buf)
endfunction

" Changes the buffer of a conversation by a function; its history of changes begins anew, since it knows of other
" places.
function! s:change(c, What) abort
	let modifiable = getbufvar(a:c.buf, '&modifiable')
	let levels = getbufvar(a:c.buf, '&undolevels')
	call setbufvar(a:c.buf, '&modifiable', 1)
	call setbufvar(a:c.buf, '&undolevels', -1)
	try
		call a:What()
	finally
		call setbufvar(a:c.buf, '&undolevels', levels)
		call setbufvar(a:c.buf, '&modifiable', modifiable)
		call setbufvar(a:c.buf, '&modified', 0)
	endtry
endfunction

function! s:draft_of(c) abort
	let lines = getbufline(a:c.buf, 1, '$')
	for i in range(len(lines) - 1, 0, -1)
		if stridx(lines[i], s:draft) == 0
			let rest = lines[i][len(s:draft):]
			let draft = lines[i + 1:]
			if !empty(rest)
				let draft = [rest . get(draft, 0, '')] + draft[1:]
			endif
			return draft
		endif
	endfor
	return []
endfunction

" Whether the line above the draft is where it should be: else somebody deleted across it.
function! s:sound(c) abort
	return getbufline(a:c.buf, a:c.top + 1) == [s:draft]
endfunction

" The window's cursor decides whether the buffer can be changed: only below [you].
function! s:guard(c) abort
	if bufnr('') == a:c.buf
		let &l:modifiable = line('.') > a:c.top + 1
	endif
endfunction

function! s:lines_of(text) abort
	return split(a:text, "\n", 1)
endfunction

function! s:message_lines(number, role, text) abort
	return [printf('[%d] %s', a:number, a:role)] + s:lines_of(a:text) + ['']
endfunction

function! s:put_lines(c, at, lines) abort
	call appendbufline(a:c.buf, a:at, a:lines)
endfunction

function! s:append_message(c, number, role, text) abort
	let lines = s:message_lines(a:number, a:role, a:text)
	call s:change(a:c, {-> s:put_lines(a:c, a:c.top, lines)})
	call add(a:c.messages, {'number': a:number, 'line': a:c.top + 1})
	let a:c.top += len(lines)
	let a:c.open = a:role ==# 'assistant' ? a:number : -1
endfunction

function! s:put_text(c, lines) abort
	let row = a:c.top - 1
	call setbufline(a:c.buf, row, getbufline(a:c.buf, row)[0] . a:lines[0])
	call appendbufline(a:c.buf, row, a:lines[1:])
	let a:c.top += len(a:lines) - 1
endfunction

function! s:append_text(c, text) abort
	let lines = s:lines_of(a:text)
	call s:change(a:c, {-> s:put_text(a:c, lines)})
endfunction

" Takes the messages from this number on out of the buffer.
function! s:cut(c, number) abort
	for i in range(len(a:c.messages))
		if a:c.messages[i].number >= a:number
			let line = a:c.messages[i].line
			call s:change(a:c, {-> deletebufline(a:c.buf, line, a:c.top)})
			let a:c.top = line - 1
			let a:c.messages = i ? a:c.messages[:i - 1] : []
			break
		endif
	endfor
	let a:c.open = -1
endfunction

function! s:older_line(count) abort
	return printf('[older] %d earlier messages: <CR> here loads more', a:count)
endfunction

function! s:put_all(c, lines) abort
	call deletebufline(a:c.buf, 1, '$')
	call setbufline(a:c.buf, 1, a:lines)
endfunction

" Empties the buffer but for the draft.
function! s:clear(c, draft) abort
	let a:c.messages = []
	let a:c.top = 0
	let a:c.open = -1
	let a:c.pending = ''
	let a:c.drawing += 1
	let a:c.older = 0
	let lines = [s:draft] + (empty(a:draft) ? [''] : a:draft)
	call s:change(a:c, {-> s:put_all(a:c, lines)})
endfunction

" What the conversation of a buffer (the current one without) is doing, for a status line.
function! sinkd#status(...) abort
	let c = s:conversation(a:0 ? a:1 : bufnr(''))
	if empty(c)
		return ''
	endif
	let words = [c.name]
	if empty(s:bridge)
		call add(words, 'no bridge')
	elseif !s:bridge.connected
		call add(words, 'reconnecting')
	elseif c.missing
		call add(words, 'new')
	elseif !empty(c.reading)
		call add(words, 'reading ' . c.reading)
	elseif !empty(c.answer) && empty(c.answer.done)
		call add(words, 'answering ' . c.answer.tokens)
	elseif !c.ready
		call add(words, 'loading')
	else
		call add(words, c.info.state)
	endif
	if !c.missing && !empty(c.info)
		call add(words, c.info.tokens . ' tokens')
		call add(words, 'window ' . c.info.window)
		if c.info.evicted > 0
			call add(words, 'evicted ' . c.info.evicted)
		endif
	endif
	return join(words, ' · ')
endfunction

" Text behind a line without being in it came with patch 9.0.0067.
function! s:show_status(c) abort
	if s:alive(a:c) && bufwinid(a:c.buf) > 0
		redrawstatus!
	endif
	if !has('patch-9.0.0067') || !s:alive(a:c) || !s:sound(a:c)
		return
	endif
	call s:prop_type('sinkd_status', {'highlight': 'Comment'})
	call prop_remove({'type': 'sinkd_status', 'bufnr': a:c.buf, 'all': 1})
	call prop_add(a:c.top + 1, 0, {'type': 'sinkd_status', 'bufnr': a:c.buf, 'text_align': 'after',
		\ 'text': '  ' . sinkd#status(a:c.buf)})
endfunction

function! s:prop_type(name, props) abort
	if empty(prop_type_get(a:name))
		call prop_type_add(a:name, hlexists(get(a:props, 'highlight', '')) ? a:props : {})
	endif
endfunction

" ---- answers that are put into place ----

" A place in a buffer that moves with its text: a property without width.
function! s:mark_add(buf, line, column) abort
	call s:prop_type('sinkd_place', {})
	let s:last_mark += 1
	call prop_add(a:line, a:column, {'type': 'sinkd_place', 'id': s:last_mark, 'length': 0, 'bufnr': a:buf})
	return s:last_mark
endfunction

function! s:mark_place(buf, mark) abort
	let found = prop_list(1, {'bufnr': a:buf, 'end_lnum': -1, 'ids': [a:mark], 'types': ['sinkd_place']})
	return empty(found) ? [] : [found[0].lnum, found[0].col]
endfunction

function! s:mark_remove(buf, mark) abort
	if bufloaded(a:buf) && a:mark
		call prop_remove({'id': a:mark, 'type': 'sinkd_place', 'both': 1, 'bufnr': a:buf, 'all': 1})
	endif
endfunction

function! s:insert_end(c, why) abort
	let insert = a:c.insert
	let a:c.insert = {}
	if empty(insert)
		return
	endif
	call s:mark_remove(insert.buf, insert.mark)
	call s:mark_remove(insert.buf, insert.first)
	if !empty(a:why)
		call s:fail(a:why)
	endif
endfunction

" Puts lines at the mark, which is behind them then. The first piece makes the place: a line below the lines that were
" sent, or instead of them. False when the place is gone.
function! s:insert_lines(insert, lines) abort
	let buf = a:insert.buf
	let place = s:mark_place(buf, a:insert.mark)
	if empty(place)
		return 0
	endif
	let [row, column] = place
	let lines = copy(a:lines)
	let line = getbufline(buf, row)[0]
	let before = strpart(line, 0, column - 1)
	let behind = strpart(line, column - 1)
	if a:insert.first
		let first = s:mark_place(buf, a:insert.first)
		if empty(first)
			return 0
		endif
		let before = strpart(getbufline(buf, first[0])[0], 0, first[1] - 1)
		if first[0] < row
			call deletebufline(buf, first[0] + 1, row)
		endif
		let row = first[0]
		let a:insert.first = 0
	elseif a:insert.below
		let lines = [''] + lines
		let a:insert.below = 0
	endif
	let lines[0] = before . lines[0]
	let end = len(lines[-1]) + 1
	let lines[-1] .= behind
	call s:mark_remove(buf, a:insert.mark)
	call setbufline(buf, row, lines[0])
	if len(lines) > 1
		call appendbufline(buf, row, lines[1:])
	endif
	call prop_add(row + len(lines) - 1, end, {'type': 'sinkd_place', 'id': a:insert.mark, 'length': 0, 'bufnr': buf})
	return 1
endfunction

" One step for undo, as long as nobody else changes the buffer meanwhile. The keys that are typed in a window end a step
" of the buffer that it shows, so only such a one must be joined.
function! s:insert_join(insert) abort
	if a:insert.tick == getbufvar(a:insert.buf, 'changedtick')
		if bufnr('') == a:insert.buf
			silent! undojoin
		elseif bufwinid(a:insert.buf) > 0
			call win_execute(bufwinid(a:insert.buf), 'silent! undojoin')
		endif
	endif
endfunction

function! s:insert_text(c) abort
	let insert = a:c.insert
	let text = insert.pending
	let insert.pending = ''
	if empty(text)
		return
	endif
	let gone = 'the answer has no place any more; it goes on in ' . s:uri . a:c.name
	if !bufloaded(insert.buf) || !getbufvar(insert.buf, '&modifiable')
		return s:insert_end(a:c, gone)
	endif
	call s:insert_join(insert)
	if !s:insert_lines(insert, s:lines_of(text))
		return s:insert_end(a:c, gone)
	endif
	let insert.tick = getbufvar(insert.buf, 'changedtick')
endfunction

function! s:insert_take(c) abort
	let insert = a:c.insert
	if empty(insert) || empty(a:c.answer) || insert.message != a:c.answer.message
		return
	endif
	let insert.pending .= a:c.answer.text
	let a:c.answer.text = ''
	if !empty(a:c.answer.done)
		call s:insert_text(a:c)
		call s:insert_end(a:c, a:c.answer.done ==# 'error' ? 'the answer ended with an error' : '')
	endif
endfunction

" ---- what streams ----

function! s:flush(c) abort
	if s:alive(a:c) && !empty(a:c.pending)
		let text = a:c.pending
		let a:c.pending = ''
		if !s:sound(a:c)
			return s:reload(a:c)
		endif
		call s:append_text(a:c, text)
	endif
	if !empty(a:c.insert)
		call s:insert_text(a:c)
	endif
	call s:show_status(a:c)
endfunction

function! s:flush_all(timer) abort
	let s:flush_waits = 0
	for c in values(s:conversations)
		call s:flush(c)
	endfor
endfunction

function! s:flush_soon() abort
	if !s:flush_waits
		let s:flush_waits = 1
		call timer_start(s:option('redraw', 40), function('s:flush_all'))
	endif
endfunction

function! s:refreshed(c, result, error) abort
	if empty(a:error)
		let a:c.info = a:result.conversation
		call s:show_status(a:c)
	endif
endfunction

function! s:refresh(c) abort
	call s:call('show', {'conversation': a:c.name}, function('s:refreshed', [a:c]))
endfunction

let s:handlers = {}

function! s:handlers.message(c, event) abort
	call s:flush(a:c)
	call s:append_message(a:c, a:event.message, a:event.role, a:event.text)
endfunction

function! s:handlers.answer(c, event) abort
	call s:flush(a:c)
	let a:c.reading = ''
	let a:c.answer = {'message': a:event.message, 'tokens': 0, 'text': '', 'done': ''}
	call s:append_message(a:c, a:event.message, 'assistant', '')
	call s:refresh(a:c)
endfunction

function! s:handlers.prefill(c, event) abort
	let a:c.reading = a:event.done < a:event.total ? a:event.done . '/' . a:event.total : ''
	call s:flush_soon()
endfunction

function! s:handlers.text(c, event) abort
	if a:c.open != a:event.message
		return
	endif
	let a:c.pending .= a:event.text
	let a:c.answer.tokens += a:event.tokens
	if !empty(a:c.insert)
		let a:c.answer.text .= a:event.text
		call s:insert_take(a:c)
	endif
	call s:flush_soon()
endfunction

function! s:handlers.done(c, event) abort
	let a:c.reading = ''
	if !empty(a:c.answer) && a:c.answer.message == a:event.message
		let a:c.answer.done = a:event.finish
		call s:insert_take(a:c)
	endif
	call s:flush(a:c)
	call s:refresh(a:c)
endfunction

function! s:handlers.rewound(c, event) abort
	call s:flush(a:c)
	call s:cut(a:c, a:event.messages)
	let a:c.reading = ''
	let a:c.answer = {}
	call s:refresh(a:c)
endfunction

function! s:handlers.error(c, event) abort
	call s:fail(a:c.name . ': ' . a:event.text)
	if a:event.code ==# 'egone'
		call s:reload(a:c)
	else
		call s:refresh(a:c)
	endif
endfunction

function! s:handlers.unsaved(c, event) abort
	call s:tell(a:c.name . ': ' . a:event.text)
endfunction

function! s:handlers.renamed(c, event) abort
	call remove(s:conversations, a:c.name)
	let a:c.name = a:event.to
	let s:conversations[a:c.name] = a:c
	call s:name_buffer(a:c)
	call s:refresh(a:c)
endfunction

function! s:handlers.removed(c, event) abort
	call s:insert_end(a:c, 'the conversation was removed in mid-answer')
	let a:c.ready = 0
	let a:c.missing = 1
	let a:c.answer = {}
	let a:c.reading = ''
	call s:tell(a:c.name . ' was removed')
	call s:show_status(a:c)
endfunction

function! s:on_event(event) abort
	if !has_key(a:event, 'conversation')
		return
	endif
	let c = get(s:conversations, a:event.conversation, {})
	if empty(c) || !c.attached || !s:alive(c)
		return
	elseif a:event.ev ==# 'error' && a:event.code ==# 'egone'
		return s:handlers.error(c, a:event)
	elseif a:event.ev ==# 'ended'
		call s:fail(c.name . ': ' . a:event.text)
		return s:reload(c)
	elseif a:event.seq < c.next
		return
	elseif a:event.seq > c.next
		return s:reload(c)
	endif
	let c.next = a:event.seq + 1
	let is_text = a:event.ev ==# 'text'
	" Of what was before the moment of `show`, only the answer that was being written then is not drawn yet.
	if a:event.seq < c.since && (get(a:event, 'message', -2) != c.wanted || (!is_text && a:event.ev !=# 'answer'))
		return
	endif
	if a:event.seq >= c.since && c.wanted >= 0 && empty(c.answer) && (is_text || a:event.ev ==# 'done')
		" The answer begins further back.
		let c.far = 1
		return s:reload(c)
	elseif !s:sound(c)
		return s:reload(c)
	endif
	if has_key(s:handlers, a:event.ev)
		call s:handlers[a:event.ev](c, a:event)
		call s:guard(c)
	endif
endfunction

" A daemon that lost what was never saved is behind us.
function! s:compare(c, result, error) abort
	if !empty(a:error)
		return
	elseif a:result.conversation.seq < a:c.next
		call s:reload(a:c)
	else
		call s:refreshed(a:c, a:result, a:error)
	endif
endfunction

function! s:on_connection(params) abort
	let connected = a:params.state ==# 'connected'
	if s:bridge.connected == connected
		return
	endif
	let s:bridge.connected = connected
	call s:tell(connected ? 'the daemon is back' : 'the daemon is gone; waiting for it')
	for c in values(s:conversations)
		call s:show_status(c)
		if connected && c.ready
			call s:call('show', {'conversation': c.name}, function('s:compare', [c]))
		endif
	endfor
endfunction

function! s:on_bridge_end(bridge, status) abort
	if a:bridge isnot s:bridge
		return
	endif
	let s:bridge = {}
	let said = empty(a:bridge.said) ? '' : ': ' . a:bridge.said
	let command = join(s:option('cmd', ['sink', '--stdio']))
	let error = {'text': printf('%s ended with status %d%s', command, a:status, said), 'code': 'econn'}
	call s:fail_with(error)
	for Done in values(a:bridge.calls)
		call Done({}, error)
	endfor
	for c in values(s:conversations)
		call s:insert_end(c, '')
		call extend(c, {'ready': 0, 'attached': 0, 'loading': 0})
		call s:show_status(c)
	endfor
endfunction

" ---- loading ----

" Those that waited go on, with an error or without.
function! s:loaded(c, error) abort
	let waiting = a:c.waiting
	call extend(a:c, {'loading': 0, 'waiting': []})
	if !empty(a:error)
		call s:fail_with(a:error)
	endif
	call s:show_status(a:c)
	call s:guard(a:c)
	for Continue in waiting
		call Continue(a:error)
	endfor
endfunction

" Draws messages [from, to) above the line `at` + 1, in pieces; then goes on.
function! s:load_messages(c, from, to, at, Continue) abort
	if a:from >= a:to
		return a:Continue()
	endif
	call s:call('log', {'conversation': a:c.name, 'from': a:from, 'count': min([a:to - a:from, 50])},
		\ function('s:load_piece', [a:c, a:c.drawing, a:from, a:to, a:at, a:Continue]))
endfunction

function! s:load_piece(c, drawing, from, to, at, Continue, result, error) abort
	if !s:alive(a:c) || a:c.drawing != a:drawing
		return
	elseif !empty(a:error)
		return s:loaded(a:c, a:error)
	elseif empty(a:result.messages)
		return a:Continue()
	endif
	let lines = []
	let entries = []
	for message in a:result.messages
		call add(entries, {'number': message.message, 'line': a:at + len(lines) + 1})
		call extend(lines, s:message_lines(message.message, message.role, message.text))
	endfor
	call s:change(a:c, {-> s:put_lines(a:c, a:at, lines)})
	let before = filter(copy(a:c.messages), {_, m -> m.line <= a:at})
	let behind = filter(copy(a:c.messages), {_, m -> m.line > a:at})
	call map(behind, {_, m -> extend(m, {'line': m.line + len(lines)})})
	let a:c.messages = before + entries + behind
	let a:c.top += len(lines)
	call s:load_messages(a:c, a:from + len(entries), a:to, a:at + len(lines), a:Continue)
endfunction

function! s:attach(c) abort
	let info = a:c.info
	let from = info.seq
	let a:c.since = info.seq
	let a:c.wanted = -1
	if !s:null(info.answer) && info.state ==# 'answering'
		let a:c.wanted = info.answer
		let from = a:c.far ? info.first_seq : max([info.first_seq, info.seq - s:look_back])
	endif
	let a:c.far = 0
	let a:c.answer = {}
	call s:call('attach', {'conversation': a:c.name, 'from': from}, function('s:attached', [a:c]))
endfunction

function! s:attached(c, result, error) abort
	if !s:alive(a:c)
		return
	elseif !empty(a:error) && a:error.code ==# 'egone'
		let a:c.loading = 0
		return s:reload(a:c)
	elseif empty(a:error)
		call extend(a:c, {'attached': 1, 'ready': 1, 'next': a:result.seq})
	endif
	call s:loaded(a:c, a:error)
endfunction

function! s:shown(c, result, error) abort
	if !s:alive(a:c)
		return
	elseif !empty(a:error) && a:error.code ==# 'enoent'
		let a:c.missing = 1
		return s:loaded(a:c, {})
	elseif !empty(a:error)
		return s:loaded(a:c, a:error)
	endif
	let a:c.info = a:result.conversation
	let to = s:null(a:c.info.answer) ? a:c.info.messages : a:c.info.answer
	let from = max([0, to - s:option('history', 200)])
	if from > 0
		call s:change(a:c, {-> s:put_lines(a:c, 0, [s:older_line(from)])})
		let a:c.top = 1
	endif
	call s:load_messages(a:c, from, to, a:c.top, {-> s:attach(a:c)})
endfunction

" Draws the conversation anew, and follows it.
function! s:reload(c) abort
	if a:c.loading || !s:alive(a:c)
		return
	endif
	call extend(a:c, {'loading': 1, 'ready': 0, 'attached': 0, 'missing': 0})
	call s:clear(a:c, s:draft_of(a:c))
	if !s:call('show', {'conversation': a:c.name}, function('s:shown', [a:c]))
		let a:c.loading = 0
	endif
endfunction

function! s:load_older(c) abort
	let first = empty(a:c.messages) ? 0 : a:c.messages[0].number
	if first == 0 || !a:c.ready || a:c.older
		return
	endif
	let a:c.older = 1
	let from = max([0, first - s:option('history', 200)])
	if from > 0
		call s:change(a:c, {-> setbufline(a:c.buf, 1, s:older_line(from))})
	else
		call s:change(a:c, {-> deletebufline(a:c.buf, 1)})
		let a:c.top -= 1
		call map(a:c.messages, {_, m -> extend(m, {'line': m.line - 1})})
	endif
	call s:load_messages(a:c, from, first, from > 0, {-> extend(a:c, {'older': 0})})
endfunction

" ---- buffers ----

function! s:conversation(buf) abort
	for c in values(s:conversations)
		if c.buf == a:buf
			return c
		endif
	endfor
	return {}
endfunction

" The number of an attachment may be another one since it was made; attaching again tells it.
function! s:detach(result, error) abort
	if empty(a:error)
		call s:call('detach', {'attachment': a:result.attachment}, {_, e -> 0})
	endif
endfunction

function! s:closed(buf) abort
	let c = s:conversation(a:buf)
	if empty(c)
		return
	endif
	call s:insert_end(c, '')
	call remove(s:conversations, c.name)
	if !empty(s:bridge) && c.attached
		call s:call('attach', {'conversation': c.name}, function('s:detach'))
	endif
	if s:latest is c
		let s:latest = {}
	endif
endfunction

function! s:entered(buf) abort
	let c = s:conversation(a:buf)
	if !empty(c)
		let s:latest = c
		call s:guard(c)
	endif
endfunction

function! s:moved(buf) abort
	let c = s:conversation(a:buf)
	if !empty(c)
		call s:guard(c)
	endif
endfunction

function! s:edited(buf) abort
	let c = s:conversation(a:buf)
	if !empty(c) && c.ready && !s:sound(c)
		call s:reload(c)
	endif
endfunction

" Gives the buffer the conversation's name; only the current buffer's can be changed. Vim keeps the old name as a buffer
" of its own.
function! s:name_buffer(c) abort
	let here = bufnr('')
	let old = bufname(a:c.buf)
	let view = winsaveview()
	let alternate = bufnr('#')
	if here != a:c.buf
		execute 'noautocmd keepalt hide buffer ' . a:c.buf
	endif
	execute 'noautocmd keepalt silent file ' . fnameescape(s:uri . a:c.name)
	if here != a:c.buf
		execute 'noautocmd keepalt hide buffer ' . here
		call winrestview(view)
	endif
	for info in getbufinfo()
		if info.bufnr != a:c.buf && info.name ==# old
			execute 'silent! noautocmd bwipeout ' . info.bufnr
		endif
	endfor
endfunction

" Makes a buffer the view of a conversation; drawn anew when it is one already.
function! s:adopt(name, buf) abort
	let c = get(s:conversations, a:name, {})
	if !empty(c) && c.buf == a:buf
		call s:reload(c)
		return c
	endif
	let c = {'name': a:name, 'buf': a:buf, 'messages': [], 'top': 0, 'next': 0, 'since': 0, 'waiting': [], 'wanted': -1,
		\ 'far': 0, 'loading': 0, 'ready': 0, 'attached': 0, 'missing': 0, 'info': {}, 'answer': {}, 'insert': {},
		\ 'reading': '', 'drawing': 0, 'older': 0}
	let s:conversations[a:name] = c
	noautocmd call bufload(a:buf)
	for [option, value] in items({'buftype': 'nofile', 'bufhidden': 'hide', 'swapfile': 0, 'filetype': 'sinkd',
		\ 'syntax': 'markdown'})
		call setbufvar(a:buf, '&' . option, value)
	endfor
	call s:clear(c, [])
	augroup sinkd_buffers
		execute printf('autocmd! * <buffer=%d>', a:buf)
		execute printf('autocmd CursorMoved,CursorMovedI <buffer=%d> call s:moved(%d)', a:buf, a:buf)
		execute printf('autocmd BufEnter <buffer=%d> call s:entered(%d)', a:buf, a:buf)
		execute printf('autocmd TextChanged,TextChangedI <buffer=%d> call s:edited(%d)', a:buf, a:buf)
		execute printf('autocmd BufUnload <buffer=%d> call s:closed(%d)', a:buf, a:buf)
	augroup END
	call s:reload(c)
	return c
endfunction

" The conversation of this name, with a buffer that need not be seen.
function! s:conversation_of(name) abort
	let c = get(s:conversations, a:name, {})
	if !empty(c) && s:alive(c)
		if !c.ready && !c.loading && !c.missing
			call s:reload(c)
		endif
		return c
	endif
	let buf = bufadd(s:uri . a:name)
	call setbufvar(buf, '&buflisted', 1)
	return s:adopt(a:name, buf)
endfunction

function! s:made(c, Continue, result, error) abort
	if !empty(a:error) && a:error.code !=# 'eexist'
		call s:fail_with(a:error)
		return a:Continue(a:error)
	endif
	let a:c.missing = 0
	call s:when_ready(a:c, a:Continue)
endfunction

" Calls Continue({}) when the conversation is drawn and followed, or Continue(error), of which was told; it is made when
" it is missing.
function! s:when_ready(c, Continue) abort
	if !a:c.loading && !a:c.ready && !a:c.missing
		call s:reload(a:c)
	endif
	if a:c.loading
		call add(a:c.waiting, {error -> empty(error) ? s:when_ready(a:c, a:Continue) : a:Continue(error)})
	elseif a:c.ready
		call a:Continue({})
	elseif !a:c.missing || !s:call('new', {'name': a:c.name}, function('s:made', [a:c, a:Continue]))
		call a:Continue({'told': 1})
	endif
endfunction

function! s:target_made(Continue, result, error) abort
	if !empty(a:error)
		return s:fail_with(a:error)
	endif
	call a:Continue(s:conversation_of(a:result.conversation.name))
endfunction

function! s:target_listed(Continue, result, error) abort
	if !empty(a:error)
		return s:fail_with(a:error)
	elseif empty(a:result.conversations)
		call s:call('new', {}, function('s:target_made', [a:Continue]))
	else
		call a:Continue(s:conversation_of(a:result.conversations[0].name))
	endif
endfunction

" Calls Continue(c) with the conversation that a command without a name means: that of the buffer, the one used last
" here, the one used last at all, or a new one.
function! s:with_target(Continue) abort
	let c = s:conversation(bufnr(''))
	if empty(c) && !empty(s:latest) && s:alive(s:latest)
		let c = s:latest
	endif
	if empty(c)
		call s:call('list', {}, function('s:target_listed', [a:Continue]))
	else
		call a:Continue(c)
	endif
endfunction

function! s:visit(mods, c) abort
	if !empty(a:mods)
		execute a:mods . ' split'
	elseif &modified && !&hidden && empty(&buftype)
		split
	endif
	execute 'buffer ' . a:c.buf
	setlocal wrap linebreak
	nnoremap <buffer> <silent> <CR> :<C-U>call sinkd#enter()<CR>
	call cursor(line('$'), 1)
	let s:latest = a:c
	call s:guard(a:c)
endfunction

" ---- what commands do ----

function! sinkd#open(name, mods) abort
	if empty(a:name)
		call s:with_target(function('s:visit', [a:mods]))
	else
		call s:visit(a:mods, s:conversation_of(a:name))
	endif
endfunction

" The text of lines behind a prompt, fenced so that it ends where it ends.
function! s:with_lines(prompt, lines) abort
	let text = join(a:lines, "\n")
	if empty(a:prompt)
		return text
	endif
	let fence = '```'
	while stridx(text, fence) >= 0
		let fence .= '`'
	endwhile
	return printf("%s\n\n%s%s\n%s\n%s", a:prompt, fence, &filetype, text, fence)
endfunction

function! s:put_draft(c, lines) abort
	if line('$') >= 0 && len(getbufline(a:c.buf, a:c.top + 2, '$')) > 0
		call deletebufline(a:c.buf, a:c.top + 2, '$')
	endif
	call appendbufline(a:c.buf, a:c.top + 1, a:lines)
endfunction

function! s:set_draft(c, lines) abort
	call s:change(a:c, {-> s:put_draft(a:c, a:lines)})
endfunction

function! s:put_back(c, draft) abort
	if s:alive(a:c)
		let now = s:draft_of(a:c)
		call s:set_draft(a:c, a:draft + (now == [''] ? [] : now))
	endif
endfunction

function! s:said(Done, result, error) abort
	if !empty(a:error)
		call s:fail_with(a:error)
	endif
	call a:Done(a:result, a:error)
endfunction

function! s:say_now(c, text, Done, error) abort
	if !empty(a:error)
		return a:Done({}, a:error)
	endif
	call s:call('say', {'conversation': a:c.name, 'text': a:text}, function('s:said', [a:Done]))
endfunction

" Says it; Done(result, {}) or Done({}, error), of which was told.
function! s:say(c, text, Done) abort
	let s:latest = a:c
	call s:when_ready(a:c, function('s:say_now', [a:c, a:text, a:Done]))
endfunction

" Says the draft below [you].
function! s:send_draft(c) abort
	let draft = s:draft_of(a:c)
	let text = substitute(join(draft, "\n"), '^\_s*\n\|\_s*$', '', 'g')
	if empty(text)
		return s:fail('there is nothing below [you] to say')
	endif
	call s:set_draft(a:c, [''])
	call s:say(a:c, text, {_, error -> empty(error) ? 0 : s:put_back(a:c, draft)})
endfunction

" <CR> in a conversation.
function! sinkd#enter() abort
	let c = s:conversation(bufnr(''))
	if empty(c)
		return
	elseif line('.') == 1 && getline(1) =~# '^\[older\]'
		call s:load_older(c)
	else
		call s:send_draft(c)
	endif
endfunction

" Says `text`; with lines these too, fenced behind it.
function! sinkd#send(text, lines) abort
	let c = s:conversation(bufnr(''))
	if empty(a:text) && empty(a:lines) && empty(c)
		return s:fail('there is nothing to say: give a range or a text')
	elseif empty(a:text) && empty(a:lines)
		return s:send_draft(c)
	endif
	let text = empty(a:lines) ? a:text : s:with_lines(a:text, a:lines)
	call s:with_target({c -> s:say(c, text, {_, e -> 0})})
endfunction

" The lines of the latest visual selection, cut at its ends.
function! s:selection() abort
	let [from, to] = [getpos("'<"), getpos("'>")]
	let lines = getline(from[1], to[1])
	if !empty(lines) && visualmode() ==# 'v'
		" The whole of the last character, which may have several bytes.
		let final = to[2] > len(lines[-1]) ? len(lines[-1]) : to[2] - 1 + len(matchstr(lines[-1], '.', to[2] - 1))
		let lines[-1] = strpart(lines[-1], 0, final)
		let lines[0] = strpart(lines[0], from[2] - 1)
	endif
	return lines
endfunction

function! sinkd#send_selection() abort
	call sinkd#send(input('Prompt: '), s:selection())
endfunction

" Where an answer without lines goes: at the cursor, or behind the line when the cursor stands on its last character.
function! s:cursor_place() abort
	let column = col('.')
	let line = getline('.')
	if mode() ==# 'n' && column > 1 && column - 1 + len(matchstr(line, '.', column - 1)) >= len(line)
		let column = len(line) + 1
	endif
	return [line('.'), column]
endfunction

function! s:inserted(c, insert, result, error) abort
	if a:c.insert isnot a:insert
		return
	elseif !empty(a:error)
		return s:insert_end(a:c, '')
	endif
	let a:insert.message = a:result.message + 1
	call s:insert_take(a:c)
endfunction

function! s:insert_into(insert, text, c) abort
	if !empty(a:c.insert)
		return s:fail(a:c.name . ' is answering into another place; :SinkStop ends that')
	endif
	let a:c.insert = a:insert
	call s:say(a:c, a:text, function('s:inserted', [a:c, a:insert]))
endfunction

" Asks, and streams the answer into this buffer: at the cursor, below lines first..last, or instead of them.
function! sinkd#insert(prompt, first, last, replace) abort
	let buf = bufnr('')
	if !empty(s:conversation(buf)) || !&modifiable
		return s:fail('an answer cannot be put into this buffer')
	elseif empty(a:prompt) && !a:first
		return s:fail('there is nothing to say: give a range or a text')
	endif
	let insert = {'buf': buf, 'pending': '', 'first': 0, 'below': 0, 'tick': -1, 'message': -1}
	" Setting this option ends a step for undo.
	let &l:undolevels = &l:undolevels
	let text = a:prompt
	if a:first
		let text = s:with_lines(a:prompt, getline(a:first, a:last))
		let insert.mark = s:mark_add(buf, a:last, len(getline(a:last)) + 1)
		let insert.below = !a:replace
		let insert.first = a:replace ? s:mark_add(buf, a:first, 1) : 0
	else
		let [row, column] = s:cursor_place()
		let insert.mark = s:mark_add(buf, row, column)
	endif
	call s:with_target(function('s:insert_into', [insert, text]))
endfunction

" Stops the answer that goes into this buffer, else that of the conversation.
function! sinkd#stop() abort
	for c in values(s:conversations)
		if !empty(c.insert) && c.insert.buf == bufnr('')
			call s:call('stop', {'conversation': c.name})
			return
		endif
	endfor
	call s:with_target({c -> s:call('stop', {'conversation': c.name})})
endfunction

" The number of the message under the cursor, or -1.
function! s:message_here(c) abort
	let number = -1
	if a:c.buf == bufnr('') && line('.') <= a:c.top
		for message in a:c.messages
			if message.line <= line('.')
				let number = message.number
			endif
		endfor
	endif
	return number
endfunction

function! s:forked(c, params, mods, try, result, error) abort
	if empty(a:error)
		return s:visit(a:mods, s:conversation_of(a:result.conversation.name))
	elseif a:error.code !=# 'eexist' || !a:try || a:try > 100
		return s:fail_with(a:error)
	endif
	let params = extend(copy(a:params), {'to': printf('%s-%d', a:c.name, a:try + 1)})
	call s:call('fork', params, function('s:forked', [a:c, params, a:mods, a:try + 1]))
endfunction

function! s:fork_of(to, here, mods, c) abort
	let params = {'conversation': a:c.name, 'to': empty(a:to) ? a:c.name . '-2' : a:to}
	if a:here
		let params.message = s:message_here(a:c)
		if params.message < 0
			return s:fail('there is no message under the cursor')
		endif
	endif
	call s:call('fork', params, function('s:forked', [a:c, params, a:mods, empty(a:to) ? 2 : 0]))
endfunction

" Forks the conversation, with `here` only the messages before that under the cursor; the fork is opened.
function! sinkd#fork(to, here, mods) abort
	call s:with_target(function('s:fork_of', [a:to, a:here, a:mods]))
endfunction

function! s:settle(Continue, c) abort
	if a:c.loading
		call add(a:c.waiting, {error -> empty(error) ? a:Continue(a:c) : 0})
	else
		call a:Continue(a:c)
	endif
endfunction

" As s:with_target(), but when it is not just being drawn: what is asked then has events that are seen.
function! s:settled(Continue) abort
	call s:with_target(function('s:settle', [a:Continue]))
endfunction

function! sinkd#rename(to) abort
	call s:settled({c -> s:call('rename', {'conversation': c.name, 'to': a:to})})
endfunction

function! s:rewind_to(number, c) abort
	let message = a:number =~# '^\d\+$' ? str2nr(a:number) : empty(a:number) ? s:message_here(a:c) : -1
	if message < 0
		return s:fail(empty(a:number) ? 'there is no message under the cursor' : '"' . a:number . '" is no number')
	endif
	call s:call('rewind', {'conversation': a:c.name, 'message': message})
endfunction

" Forgets the messages from this number on; without a number from the one under the cursor.
function! sinkd#rewind(number) abort
	call s:settled(function('s:rewind_to', [a:number]))
endfunction

" ---- the list ----

let s:list_buf = -1

function! s:draw_list(result, error) abort
	if !empty(a:error)
		return s:fail_with(a:error)
	elseif !bufloaded(s:list_buf)
		return
	endif
	let lines = [printf('%-24S %-10s %6s %8s %8s %9s', 'NAME', 'STATE', 'MSGS', 'TOKENS', 'WINDOW', 'EVICTED')]
	for info in a:result.conversations
		call add(lines, printf('%-24S %-10s %6d %8d %8d %9d', info.name, info.state, info.messages, info.tokens,
			\ info.window, info.evicted))
	endfor
	call setbufvar(s:list_buf, '&modifiable', 1)
	call deletebufline(s:list_buf, 1, '$')
	call setbufline(s:list_buf, 1, lines)
	call setbufvar(s:list_buf, '&modifiable', 0)
	call setbufvar(s:list_buf, 'sinkd_names', map(copy(a:result.conversations), {_, info -> info.name}))
endfunction

function! sinkd#list_fill() abort
	call s:call('list', {}, function('s:draw_list'))
endfunction

function! sinkd#list_open() abort
	let name = line('.') > 1 ? get(get(b:, 'sinkd_names', []), line('.') - 2, '') : ''
	if !empty(name)
		call sinkd#open(name, '')
	endif
endfunction

" The conversations, in a buffer: <CR> opens one, R looks again.
function! sinkd#list(mods) abort
	if !bufexists(s:list_buf)
		let s:list_buf = bufadd('sink-list')
	endif
	if !empty(a:mods)
		execute a:mods . ' split'
	elseif &modified && !&hidden && empty(&buftype)
		split
	endif
	execute 'buffer ' . s:list_buf
	setlocal buftype=nofile bufhidden=hide noswapfile nobuflisted filetype=sinkd-list nomodifiable
	nnoremap <buffer> <silent> <CR> :<C-U>call sinkd#list_open()<CR>
	nnoremap <buffer> <silent> R :<C-U>call sinkd#list_fill()<CR>
	call sinkd#list_fill()
endfunction

" Names of conversations for the command line. A name may have blanks, of which completion sees the last word alone.
function! sinkd#complete(lead, line, at) abort
	let typed = matchstr(strpart(a:line, 0, a:at), '\a\+!\?\s\+\zs.*$')
	let names = map(get(s:call_now('list', {}), 'conversations', []), {_, info -> info.name})
	call filter(names, {_, name -> stridx(name, typed) == 0})
	return map(names, {_, name -> strpart(name, len(typed) - len(a:lead))})
endfunction

" A buffer sink://NAME that is opened by its name.
function! sinkd#read(buf) abort
	let name = strpart(bufname(a:buf), len(s:uri))
	if !empty(name)
		call s:adopt(name, a:buf)
		nnoremap <buffer> <silent> <CR> :<C-U>call sinkd#enter()<CR>
	endif
endfunction
