"""The editors' integrations in contrib/editors: each case with Neovim, Vim and Emacs, headless, over the real bridge.

What a case does is written once; a class an editor knows how to do it there. What an editor shows must be what the
daemon's log says.
"""
import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time

import msgpack

import live
from live import case, eventually, same

EDITORS = os.path.join(live.SOURCE, 'contrib', 'editors')
LONG = 'Tell me a very long story about a lighthouse keeper.'

daemon = live.Daemon(live.model())


class Vims:
    """What Vim and Neovim share: ex(command) and expr(expression) are the one's or the other's."""

    home = None

    def open(self, name):
        self.ex('Sink ' + name)

    def buffer(self, name):
        return f'bufnr("^sink://{name}$")'

    def lines(self, name):
        return self.expr(f'getbufline({self.buffer(name)}, 1, "$")')

    def transcript(self, name):
        """What stands above the draft."""
        lines = self.lines(name)
        return ''.join(line + '\n' for line in lines[:lines.index('[you]')]) if '[you]' in lines else None

    def draft(self, name):
        lines = self.lines(name)
        return '\n'.join(lines[lines.index('[you]') + 1:])

    def say(self, name, text):
        """Types it below [you], and <CR>."""
        self.ex('Sink ' + name)
        self.ex('call cursor(line("$"), 1)')
        self.ex('doautocmd CursorMoved')
        self.ex(f'call setline("$", {json.dumps(text, ensure_ascii=False)})')
        self.ex('execute "normal \\<CR>"')

    def status(self, name):
        return self.expr(f'{self.STATUS}({self.buffer(name)})')

    def file(self, text, row, column):
        """A new buffer with this text, the cursor on a line (from 1) and a character (from 0)."""
        self.ex('enew')
        self.ex('setlocal bufhidden=hide')
        self.ex(f'call setline(1, {json.dumps(text.splitlines())})')
        self.ex(f'call cursor({row}, {column + 1})')

    def content(self):
        return '\n'.join(self.expr('getline(1, "$")'))

    def insert(self, prompt):
        self.ex('SinkInsert ' + prompt)

    def insert_lines(self, prompt, first, last, replace):
        self.ex(f'{first},{last}SinkInsert{"!" if replace else ""} {prompt}')

    def send(self, text):
        self.ex('SinkSend ' + text)

    def send_lines(self, prompt, first, last):
        self.ex(f'{first},{last}SinkSend {prompt}')

    def undo(self):
        self.ex('undo')

    def stop(self):
        self.ex('SinkStop')

    def fork(self, to=''):
        self.ex('SinkFork ' + to)

    def rename(self, to):
        self.ex('SinkRename ' + to)

    def rewind(self, number):
        self.ex(f'SinkRewind {number}')

    def current(self):
        return self.expr('bufname("%")').partition('sink://')[2]

    def listed(self):
        """The names that the list shows."""
        self.ex('SinkList')
        lines = eventually(lambda: self.expr('getline(2, "$")'), 'the list is filled')
        return [line.split()[0] for line in lines]

    def open_listed(self, name):
        self.ex(f'call search("^{name} ")')
        self.ex('execute "normal \\<CR>"')

    def complete(self, lead, command='Sink'):
        return self.expr(f'getcompletion("{command} {lead}", "cmdline")')

    def older(self, name):
        self.ex('Sink ' + name)
        self.ex('call cursor(1, 1)')
        self.ex('execute "normal \\<CR>"')

    def damage(self, name):
        """Deletes from the draft to the beginning."""
        self.ex('Sink ' + name)
        self.ex('call cursor(line("$"), 1)')
        self.ex('doautocmd CursorMoved')
        self.ex('normal dgg')
        self.ex('doautocmd TextChanged')

    def forget_messages(self):
        self.ex('messages clear')

    def messages(self):
        return self.expr('execute("messages")')

    def help(self):
        """Its tags are found once each, and are those that are installed."""
        folder = live.directory()
        shutil.copy(os.path.join(EDITORS, self.NAME, 'doc', 'sinkd.txt'), folder)
        self.ex('helptags ' + folder)
        with open(os.path.join(folder, 'tags'), encoding='utf-8') as file:
            tags = file.read()
        with open(os.path.join(live.BUILD, 'contrib', 'editors', self.NAME, 'doc', 'tags'), encoding='utf-8') as file:
            same(file.read(), tags, 'the tags that are installed and those of :helptags')
        for name in ('sinkd', ':Sink', ':SinkInsert', 'sinkd-failure'):
            assert re.search(rf'^{name}\t', tags, re.M), name


class Neovim(Vims):
    """Driven by the MessagePack-RPC of --embed."""

    NAME = 'nvim'
    STATUS = 'v:lua.require("sinkd").status'
    program = shutil.which('nvim')

    def __init__(self, command):
        self.process = subprocess.Popen(
            [self.program, '--embed', '--headless', '-u', 'NONE', '-i', 'NONE', '-n'],
            env=live.environment(daemon.home), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unpacker = msgpack.Unpacker(raw=False)
        self.last = 0
        self.ex('set hidden')
        self.ex('set runtimepath^=' + os.path.join(EDITORS, 'nvim'))
        self.ex('runtime plugin/sinkd.lua')
        self.call('nvim_exec_lua', 'require("sinkd").setup(...)', [{'cmd': command}])

    def call(self, method, *params):
        self.last += 1
        self.process.stdin.write(msgpack.packb([0, self.last, method, params]))
        self.process.stdin.flush()
        while True:
            for message in self.unpacker:
                if message[0] == 1 and message[1] == self.last:
                    assert message[2] is None, f'{method} {params}: {message[2]}'
                    return message[3]
            ready = select.select([self.process.stdout], [], [], live.WAIT)[0]
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b''
            assert data, f'{method} {params}: Neovim says nothing'
            self.unpacker.feed(data)

    def ex(self, command):
        self.call('nvim_command', command)

    def expr(self, expression):
        return self.call('nvim_eval', expression)

    def close(self):
        self.process.kill()
        self.process.wait()


class Pty:
    """A program on a terminal that nobody looks at."""

    def __init__(self, command, env):
        self.screen = b''
        master, slave = pty.openpty()
        self.process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True)
        os.close(slave)
        self.master = master
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while data := os.read(self.master, 65536):
                self.screen = (self.screen + data)[-4000:]
        except OSError:
            pass

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


class Vim(Vims):
    """Driven by the JSON channel that it opens to us."""

    NAME = 'vim'
    STATUS = 'sinkd#status'
    program = shutil.which('vim')

    def __init__(self, command):
        listener = socket.create_server(('127.0.0.1', 0))
        port = listener.getsockname()[1]
        self.screen = Pty([self.program, '-N', '-u', 'NONE', '-i', 'NONE', '-n',
                           '--cmd', f'let g:test = ch_open("127.0.0.1:{port}", {{"mode": "json"}})'],
                          live.environment(daemon.home, {'TERM': 'xterm'}))
        listener.settimeout(live.WAIT)
        self.socket, _ = listener.accept()
        self.socket.settimeout(live.WAIT)
        listener.close()
        self.buffer_in = ''
        self.last = 0
        self.ex('set hidden')
        self.ex('set runtimepath^=' + os.path.join(EDITORS, 'vim'))
        self.ex('runtime plugin/sinkd.vim')
        self.ex(f'let g:sinkd_cmd = {json.dumps(command)}')

    def expr(self, expression):
        self.last -= 1
        self.socket.sendall(json.dumps(['expr', expression, self.last]).encode())
        while True:
            try:
                message, end = json.JSONDecoder().raw_decode(self.buffer_in.lstrip())
            except ValueError:
                data = self.socket.recv(65536)
                assert data, f'{expression}: Vim has ended'
                self.buffer_in += data.decode()
                continue
            self.buffer_in = self.buffer_in.lstrip()[end:]
            if message[0] == self.last:
                assert message[1] != 'ERROR', f'{expression}: {self.messages() if "messages" not in expression else ""}'
                return message[1]

    def ex(self, command):
        error = self.expr(f'SinkdTestDo({json.dumps(command)})') if self.last else self._first(command)
        assert not error, f'{command}: {error}'

    def _first(self, command):
        """Commands of a channel tell no errors: a function does."""
        self.socket.sendall(json.dumps(['ex', 'function! SinkdTestDo(command)\ntry\nexecute a:command\nreturn ""\n'
                                        'catch\nreturn v:exception . " " . v:throwpoint\nendtry\nendfunction'])
                            .encode())
        return self.expr(f'SinkdTestDo({json.dumps(command)})')

    def close(self):
        self.socket.close()
        self.screen.close()


# Takes forms, a line each, carries them out in the buffer of the selected window, and tells the value as JSON.
DRIVER = r"""
(setq test-messages nil)
(advice-add 'message :before (lambda (format &rest arguments)
  (when format (push (apply #'format format arguments) test-messages))))
(defun test-eval (process text)
  (let ((answer (condition-case err
                    (with-current-buffer (window-buffer (selected-window))
                      (json-serialize (vector "ok" (eval (car (read-from-string text)) t)) :null-object nil))
                  (error (json-serialize (vector "error" (error-message-string err)))))))
    (process-send-string process (concat answer "\n"))))
(setq test-input "")
(make-network-process :name "test" :host "127.0.0.1" :service %d :coding '(utf-8 . no-conversion)
  :filter (lambda (process text)
            (setq test-input (concat test-input text))
            (while (string-match "\0" test-input)
              (let ((form (substring test-input 0 (match-beginning 0))))
                (setq test-input (substring test-input (match-end 0)))
                (test-eval process form)))))
(while t (accept-process-output nil 0.02))
"""


def lisp(value):
    """A value as Lisp reads it."""
    if isinstance(value, str):
        return '"' + value.replace('\\', '\\\\').replace('"', '\\"') + '"'
    if isinstance(value, list):
        return '(list ' + ' '.join(map(lisp, value)) + ')'
    return {None: 'nil', False: 'nil', True: 't'}.get(value) or str(value)


class Emacs:
    """In batch, with a connection to us."""

    program = shutil.which('emacs')

    def __init__(self, command):
        listener = socket.create_server(('127.0.0.1', 0))
        listener.settimeout(live.WAIT)
        script = os.path.join(live.directory(), 'driver.el')
        with open(script, 'w', encoding='utf-8') as file:
            file.write(DRIVER % listener.getsockname()[1])
        self.process = subprocess.Popen(
            [self.program, '-Q', '--batch', '-L', os.path.join(EDITORS, 'emacs'), '-l', 'sinkd', '-l', script],
            env=live.environment(daemon.home), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, restore_signals=False)  # in batch a broken pipe would be its end
        self.socket, _ = listener.accept()
        self.socket.settimeout(live.WAIT)
        self.input = self.socket.makefile('r', encoding='utf-8')
        listener.close()
        self.eval(f'(progn (setq sinkd-command {lisp(command)}) nil)')

    def eval(self, form):
        self.socket.sendall(form.encode() + b'\0')
        state, value = json.loads(self.input.readline())
        assert state == 'ok', f'{form}: {value}'
        return value

    def do(self, form):
        """A command; an error of it becomes a message, as in Emacs."""
        self.eval(f'(progn (condition-case err {form} (error (message "%s" (error-message-string err)))) nil)')

    def open(self, name):
        self.do(f'(sinkd {lisp(name)})')

    def transcript(self, name):
        text = self.whole(name)
        return text.rpartition('[you]\n')[0] if '[you]\n' in text else None

    def whole(self, name):
        return self.eval(f'(if (get-buffer "*sinkd: {name}*") (with-current-buffer "*sinkd: {name}*" (buffer-string))'
                         ' "")')

    def draft(self, name):
        return self.whole(name).rpartition('[you]\n')[2]

    def say(self, name, text):
        self.open(name)
        self.do(f'(progn (goto-char (point-max)) (insert {lisp(text)}) (sinkd-enter))')

    def status(self, name):
        return self.eval(f'(sinkd-status (get-buffer "*sinkd: {name}*"))')

    def file(self, text, row, column):
        self.do('(progn (switch-to-buffer (generate-new-buffer "file")) (buffer-enable-undo)'
                f'(insert {lisp(text)}) (goto-char (point-min)) (forward-line {row - 1}) (forward-char {column})'
                '(undo-boundary))')

    def content(self):
        return self.eval('(buffer-string)')

    def insert(self, prompt):
        self.do(f'(sinkd-insert {lisp(prompt)})')

    def _region(self, first, last):
        return (f'(progn (goto-char (point-min)) (line-beginning-position {first}))'
                f'(progn (goto-char (point-min)) (line-end-position {last}))')

    def insert_lines(self, prompt, first, last, replace):
        self.do(f'(sinkd-insert {lisp(prompt)} {self._region(first, last)} {lisp(replace)})')

    def send(self, text):
        self.do(f'(sinkd-say {lisp(text)})')

    def send_lines(self, prompt, first, last):
        self.do(f'(sinkd-send-region {self._region(first, last)} {lisp(prompt)})')

    def undo(self):
        self.do('(progn (undo-boundary) (setq last-command nil) (undo))')

    def stop(self):
        self.do('(sinkd-stop)')

    def fork(self, to=''):
        self.do(f'(sinkd-fork {lisp(to)})')

    def rename(self, to):
        self.do(f'(sinkd-rename {lisp(to)})')

    def rewind(self, number):
        self.do(f'(sinkd-rewind {number})')

    def current(self):
        return self.eval('(buffer-name)').partition('*sinkd: ')[2].rstrip('*')

    def listed(self):
        self.do('(sinkd-list)')
        return eventually(lambda: self.eval('(vconcat (mapcar #\'car tabulated-list-entries))'), 'the list is filled')

    def open_listed(self, name):
        self.do(f'(progn (goto-char (point-min)) (search-forward {lisp(name)}) (sinkd-list-open))')

    def complete(self, lead, command='Sink'):
        return self.eval(f'(vconcat (all-completions {lisp(lead)} (sinkd--names)))')

    def older(self, name):
        self.open(name)
        self.do('(progn (goto-char (point-min)) (sinkd-enter))')

    def damage(self, name):
        self.open(name)
        self.do('(delete-region (point-min) (point-max))')

    def forget_messages(self):
        self.eval('(progn (setq test-messages nil) nil)')

    def messages(self):
        return '\n'.join(self.eval('(vconcat (reverse test-messages))'))

    def help(self):
        """Compiles with warnings as errors, and its documentation is as it should be."""
        folder = live.directory()
        shutil.copy(os.path.join(EDITORS, 'emacs', 'sinkd.el'), folder)
        done = subprocess.run(
            [self.program, '-Q', '--batch', '--eval', '(setq byte-compile-error-on-warn t)', '-f', 'batch-byte-compile',
             'sinkd.el'], cwd=folder, text=True, capture_output=True, check=False)
        assert done.returncode == 0 and not done.stderr.strip(), done
        done = subprocess.run(
            [self.program, '-Q', '--batch', '--eval', '(progn (require \'checkdoc) (checkdoc-file "sinkd.el"))'],
            cwd=folder, text=True, capture_output=True, check=False)
        assert done.returncode == 0 and not done.stderr.strip(), done

    def close(self):
        self.process.kill()
        self.process.wait()
        self.input.close()
        self.socket.close()


KINDS = {'neovim': Neovim, 'vim': Vim, 'emacs': Emacs}
_running = {}


def editor(kind):
    """The one of this kind that most cases share."""
    if kind not in _running:
        _running[kind] = KINDS[kind]([live.SINK, '--stdio'])
    _running[kind].forget_messages()
    return _running[kind]


def in_each(function):
    """Declares a case for every editor: what it is given are the editor and a prefix for names."""
    for kind, cls in KINDS.items():
        def run(kind=kind, cls=cls):
            if not usable(cls.program):
                raise live.Skip(f'there is no {kind}')
            function(editor(kind), kind)
        run.__name__ = f'{kind}: {function.__name__}'
        case(run)
    return function


def usable(program):
    """Whether it is there, and no smaller Vim without channels."""
    if not program:
        return False
    if not program.endswith('/vim'):
        return True
    features = subprocess.run([program, '--version'], text=True, capture_output=True, check=False).stdout
    return '+channel' in features and '+textprop' in features


_client = None


def call(op, **fields):
    """A call of a client of our own, which is made anew with the daemon."""
    global _client
    if _client is None or _client[0] is not daemon:
        _client = (daemon, daemon.client())
    return _client[1].call(op, **fields)


def new(name, **sampling):
    """A conversation whose answers are short and always the same."""
    call('new', name=name, system='Be brief.', sampling={'max_tokens': 25, 'seed': 11, **sampling})


def there(name):
    return name in [info['name'] for info in call('list')['conversations']]


def log(name):
    return call('log', conversation=name)['messages']


def paced():
    """What happens in the middle of an answer can only be seen when it takes a while."""
    if not os.environ.get('SINKD_MODEL'):
        raise live.Skip('without a real model answers come at once')


def state(name):
    return call('show', conversation=name)['conversation']['state']


def drawn(name):
    """How an editor shows what the daemon has."""
    return ''.join(f"[{m['message']}] {m['role']}\n{m['text']}\n\n" for m in log(name))


def shows(ed, name, messages=None):
    """Waits until the answer has ended and the editor shows the whole log."""
    eventually(lambda: messages is None or len(log(name)) == messages, 'it is said')
    eventually(lambda: state(name) == 'idle', 'it is answered')
    try:
        eventually(lambda: ed.transcript(name) == drawn(name), 'the editor shows the log', wait=10)
    except AssertionError:
        print('# ' + ed.messages().replace('\n', '\n# '))
        same(ed.transcript(name), drawn(name), 'what is shown and the log')


def told(ed, pattern):
    """Waits for a message that is no traceback."""
    try:
        eventually(lambda: re.search(pattern, ed.messages()), f'a message like {pattern}', wait=10)
    except AssertionError:
        raise AssertionError(f'no message like {pattern}: {ed.messages()}') from None
    assert not re.search(r'stack traceback|\.lua:|E\d+:|wrong-type|line +\d+:', ed.messages()), ed.messages()


@in_each
def what_is_said_below_the_line_is_answered_above_it(ed, kind):
    new(kind)
    ed.say(kind, 'What is the sea? Café, 海.')
    shows(ed, kind, 3)
    assert log(kind)[1]['text'] == 'What is the sea? Café, 海.' and ed.draft(kind) == ''
    eventually(lambda: re.match(rf'{kind} · idle · \d+ tokens · window \d+', ed.status(kind)), 'its status')


@in_each
def a_conversation_that_is_not_there_is_made_by_what_is_said_first(ed, kind):
    name = kind + ' made of words'
    ed.open(name)
    eventually(lambda: 'new' in ed.status(name), 'it is new')
    assert not there(name)
    ed.say(name, 'Hello')
    eventually(lambda: there(name) and log(name) and log(name)[-1]['role'] == 'assistant', 'it is made')
    call('stop', conversation=name)
    shows(ed, name)


@in_each
def what_another_client_says_appears(ed, kind):
    ed.open(kind)
    client = daemon.client('other')
    client.say(kind, 'And what is salt?')
    eventually(lambda: 'And what is salt?' in ed.transcript(kind), 'the message appears')
    client.until('done')
    client.close()
    shows(ed, kind, 5)


@in_each
def it_is_opened_in_the_middle_of_an_answer(ed, kind):
    paced()
    name = kind + '-middle'
    new(name, max_tokens=150)
    client = daemon.client('other')
    client.say(name, LONG)
    while sum(event['ev'] == 'text' for event in [client.event()]) < 1:
        pass
    ed.open(name)
    eventually(lambda: 'answering' in ed.status(name), 'it says that it answers')
    client.close()
    shows(ed, name, 3)


@in_each
def an_answer_is_streamed_into_place_and_undone_at_once(ed, kind):
    paced()
    name = kind + '-place'
    new(name, max_tokens=60)
    ed.open(name)
    text = 'one\ntwo\nthree'
    ed.file(text, 2, 1)
    ed.insert(LONG)
    sizes = set()
    eventually(lambda: sizes.add(len(ed.content())) or len(sizes) > 3, 'it comes in pieces')
    shows(ed, name, 3)
    same(ed.content(), f'one\nt{log(name)[2]["text"]}wo\nthree', 'the buffer')
    ed.undo()
    same(ed.content(), text, 'the buffer after undo')


@in_each
def lines_are_sent_and_the_answer_comes_below_or_instead(ed, kind):
    name = kind + '-lines'
    new(name)
    ed.open(name)
    ed.file('one\ntwo ``` ticks\nthree\nfour', 1, 0)
    ed.insert_lines('Explain this.', 2, 3, False)
    shows(ed, name, 3)
    same(log(name)[1]['text'], 'Explain this.\n\n````\ntwo ``` ticks\nthree\n````')
    first = log(name)[2]['text']
    same(ed.content(), f'one\ntwo ``` ticks\nthree\n{first}\nfour', 'the buffer')
    ed.file('one\ntwo\nthree\nfour', 1, 0)
    ed.insert_lines('Say it better.', 2, 3, True)
    shows(ed, name, 5)
    same(ed.content(), f'one\n{log(name)[4]["text"]}\nfour', 'the buffer')
    ed.undo()
    same(ed.content(), 'one\ntwo\nthree\nfour', 'the buffer after undo')


@in_each
def a_selection_and_a_text_are_sent_from_another_buffer(ed, kind):
    name = kind + '-sent'
    new(name)
    ed.open(name)
    ed.file('alpha\nbeta\ngamma', 1, 0)
    ed.send_lines('', 1, 2)
    shows(ed, name, 3)
    same(log(name)[1]['text'], 'alpha\nbeta')
    ed.send('And now?')
    shows(ed, name, 5)
    same(log(name)[3]['text'], 'And now?')
    same(ed.content(), 'alpha\nbeta\ngamma', 'the buffer')


@in_each
def stop_leaves_what_is_there(ed, kind):
    name = kind + '-stop'
    new(name, **live.ENDLESS)
    ed.open(name)
    ed.file('begin ', 1, 6)
    ed.insert(LONG)
    eventually(lambda: len(ed.content()) > 60, 'it streams')
    ed.stop()
    shows(ed, name, 3)
    assert log(name)[2]['finish'] == 'stopped', log(name)[2]
    same(ed.content(), 'begin ' + log(name)[2]['text'], 'the buffer')


@in_each
def a_conversation_that_is_answering_takes_nothing_and_the_draft_comes_back(ed, kind):
    name = kind + '-busy'
    new(name, **live.ENDLESS)
    ed.say(name, LONG)
    eventually(lambda: 'answering' in ed.status(name), 'it answers')
    ed.say(name, 'Too early')
    told(ed, 'is answering')
    eventually(lambda: ed.draft(name) == 'Too early', 'the draft is back')
    ed.stop()
    shows(ed, name, 3)
    assert ed.draft(name) == 'Too early'


@in_each
def it_forks_renames_and_rewinds(ed, kind):
    name = kind + '-tree'
    new(name)
    ed.say(name, 'One')
    shows(ed, name, 3)
    ed.fork()
    eventually(lambda: ed.current() == name + '-2', 'the fork is opened')
    shows(ed, name + '-2', 3)
    ed.fork(kind + '-twig')
    eventually(lambda: ed.current() == kind + '-twig', 'the fork has the name')
    ed.rename(kind + '-branch')
    eventually(lambda: ed.current() == kind + '-branch', 'the buffer is renamed')
    ed.rewind(1)
    eventually(lambda: len(log(kind + '-branch')) == 1, 'it is rewound')
    shows(ed, kind + '-branch')
    ed.say(kind + '-branch', 'Two')
    shows(ed, kind + '-branch', 3)
    same(log(kind + '-branch')[1]['text'], 'Two')
    shows(ed, name, 3)
    call('rename', conversation=name, to=kind + '-trunk')
    eventually(lambda: ed.transcript(kind + '-trunk'), 'a name that another client gives')
    call('remove', conversation=kind + '-trunk')
    told(ed, 'was removed')


@in_each
def it_lists_and_completes_the_names_that_there_are(ed, kind):
    names = [info['name'] for info in call('list')['conversations']]
    plain = [name for name in names if ' ' not in name]
    assert set(plain) <= set(ed.listed()), ed.listed()
    ed.open_listed(kind + '-sent')
    eventually(lambda: ed.current() == kind + '-sent', 'one is opened from the list')
    assert sorted(ed.complete(kind + '-s')) == [kind + '-sent', kind + '-stop'], ed.complete(kind + '-s')
    assert sorted(ed.complete(kind)) == sorted(name for name in names if name.startswith(kind))
    assert ed.complete('nobody') == []


@in_each
def a_long_history_is_loaded_in_pieces(ed, kind):
    name = kind + '-history'
    new(name)
    for number in range(450):
        call('say', conversation=name, text=f'Number {number}', answer=False)
    count = len(log(name))
    ed.open(name)
    eventually(lambda: 'Number 449\n' in (ed.transcript(name) or '') and 'loading' not in ed.status(name), 'it is drawn')
    text = ed.transcript(name)
    assert text.startswith(f'[older] {count - 200} earlier messages'), text[:200]
    assert text.count('] user') == 200
    for there_are in (400, count - 1):  # and the system's message
        ed.older(name)
        eventually(lambda: ed.transcript(name).count('] user') == there_are, 'more is drawn')
    eventually(lambda: ed.transcript(name) == drawn(name), 'all is drawn')
    ed.rewind(100)
    eventually(lambda: len(log(name)) == 100 and ed.transcript(name) == drawn(name), 'it is cut in the old part')


@in_each
def what_was_said_cannot_be_damaged(ed, kind):
    ed.damage(kind + '-sent')
    shows(ed, kind + '-sent')


@in_each
def a_bad_name_is_told_and_the_draft_is_kept(ed, kind):
    ed.say('a=b', 'Hello')
    told(ed, 'must not contain')
    eventually(lambda: ed.draft('a=b') == 'Hello', 'the draft is kept')
    ed.open(kind)
    ed.forget_messages()
    ed.rename('x@y')
    told(ed, 'must not contain')


@in_each
def a_daemon_that_is_killed_in_mid_answer_is_a_pause(ed, kind):
    global daemon
    paced()
    name = kind + '-killed'
    new(name, max_tokens=120)
    ed.open(name)
    ed.file('', 1, 0)
    ed.insert(LONG)
    eventually(lambda: len(ed.content()) > 20, 'it streams')
    daemon.kill()
    eventually(lambda: 'reconnecting' in ed.status(name), 'it says so')
    daemon = live.Daemon(live.model(), home=daemon.home)
    shows(ed, name, 3)
    same(ed.content(), log(name)[2]['text'], 'the buffer')
    told(ed, 'the daemon is back')


@in_each
def a_bridge_that_cannot_start_says_why(ed, kind):
    del ed
    other = KINDS[kind](['/nonexistent/sink', '--stdio'])
    try:
        other.say('x', 'Hello')
        told(other, '/nonexistent/sink')
        eventually(lambda: other.draft('x') == 'Hello', 'the draft is kept')
    finally:
        other.close()
    other = KINDS[kind](['/bin/sh', '-c', 'echo "ssh: no such host" >&2; exit 255'])
    try:
        other.say('x', 'Hello')
        told(other, 'status 255: ssh: no such host')
        eventually(lambda: other.draft('x') == 'Hello', 'the draft is kept')
    finally:
        other.close()


@in_each
def its_help_is_whole(ed, kind):
    del kind
    ed.help()


@case
def emacs_the_manual_is_texinfo_without_a_fault():
    makeinfo = shutil.which('makeinfo')
    if not makeinfo:
        raise live.Skip('there is no makeinfo')
    out = os.path.join(live.directory(), 'sinkd.info')
    done = subprocess.run([makeinfo, '-o', out, os.path.join(EDITORS, 'emacs', 'sinkd.texi')], text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr, done


@case
def the_editors_and_the_daemon_end():
    for each in _running.values():
        each.close()
    daemon.stop()


if len(sys.argv) > 1:  # by hand: the editors that are named, or cases that hold a word
    live._cases[:] = [c for c in live._cases if any(word in c.__name__ for word in sys.argv[1:])]
live.main()
