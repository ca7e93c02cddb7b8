" Commands of sinkd for Vim; what they do is in autoload/sinkd.vim, which is read when the first of them is used.
if exists('g:loaded_sinkd') || &compatible
	finish
endif
let g:loaded_sinkd = 1

command! -nargs=? -complete=customlist,sinkd#complete Sink call sinkd#open(<q-args>, <q-mods>)
command! -nargs=? -range SinkSend call sinkd#send(<q-args>, <range> ? getline(<line1>, <line2>) : [])
command! -nargs=? -range -bang SinkInsert call sinkd#insert(<q-args>, <range> ? <line1> : 0, <line2>, <bang>0)
command! -nargs=0 SinkStop call sinkd#stop()
command! -nargs=? -bang -complete=customlist,sinkd#complete SinkFork call sinkd#fork(<q-args>, <bang>0, <q-mods>)
command! -nargs=1 -complete=customlist,sinkd#complete SinkRename call sinkd#rename(<q-args>)
command! -nargs=? SinkRewind call sinkd#rewind(<q-args>)
command! -nargs=0 SinkList call sinkd#list(<q-mods>)

xnoremap <silent> <Plug>(SinkSend) :<C-U>call sinkd#send_selection()<CR>

augroup sinkd
	autocmd!
	autocmd BufReadCmd sink://* call sinkd#read(str2nr(expand('<abuf>')))
augroup END
