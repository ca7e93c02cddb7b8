;;; sinkd.el --- Conversations with a language model, kept by sinkd  -*- lexical-binding: t; -*-

;; Author: the sinkd project
;; Version: 0.1
;; Package-Requires: ((emacs "28.1"))
;; Keywords: comm, processes, tools
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; `M-x sinkd' opens a conversation in a buffer: what was said and what is being said, whoever says it, and below the
;; line [you] a draft, which RET says.  `sinkd-send-region' says a region, `sinkd-insert' streams an answer into place
;; at point, `sinkd-list' shows all conversations.  The manual is sinkd.texi: (info "(sinkd)").
;;
;; All of it goes over one process, `sink --stdio', that speaks newline-delimited JSON-RPC.  A buffer is a view of the
;; daemon's log, drawn from `log' for what was said and from events for what is being said.  Text that streams is
;; collected and drawn every `sinkd-redraw' seconds.  A gap is answered by drawing anew.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'tabulated-list)

(defgroup sinkd nil
  "Conversations with a language model, kept by sinkd."
  :group 'applications
  :prefix "sinkd-")

(defcustom sinkd-command '("sink" "--stdio")
  "The bridge and its arguments, as (\"ssh\" \"HOST\" \"sink\" \"--stdio\")."
  :type '(repeat string))

(defcustom sinkd-redraw 0.04
  "Seconds between two drawings of text that streams."
  :type 'number)

(defcustom sinkd-history-size 200
  "How many messages are loaded at once."
  :type 'natnum)

(defface sinkd-head '((t :inherit font-lock-keyword-face))
  "The line above a message.")

(defconst sinkd--look-back 4096
  "Events in which the beginning of an answer is sought first.")

(cl-defstruct (sinkd--conversation (:conc-name sinkd--c-) (:copier nil))
  name buffer info
  messages                              ; (NUMBER . MARKER) of each that is drawn, latest first
  top                                   ; a marker: where [you] begins
  (next 0) (since 0) wanted far         ; the cursor, and what is drawn of the past
  loading ready attached missing
  waiting                               ; functions of an error or nil
  open pending                          ; the answer that grows, and its text that is not drawn yet
  (drawing 0) older                     ; how often it was drawn; whether older messages are on their way
  answer reading insert)

(cl-defstruct (sinkd--answer (:copier nil)) message (tokens 0) (text "") done)
(cl-defstruct (sinkd--insert (:copier nil)) marker first below (pending "") message tick change)
(cl-defstruct (sinkd--bridge (:copier nil)) process errors (partial "") (calls (make-hash-table)) (connected t))

(defvar sinkd--bridge nil "The bridge that runs, or nil.")
(defvar sinkd--last-id 0)
(defvar sinkd--conversations (make-hash-table :test #'equal) "Conversations by name.")
(defvar sinkd--latest nil "The conversation that was used last here.")
(defvar sinkd--flush-timer nil)
(defvar sinkd--names-read nil "History of names of conversations.")
(defvar-local sinkd--here nil "The conversation of this buffer.")

(defun sinkd--tell (format &rest arguments)
  "Show a line in the echo area: FORMAT with ARGUMENTS."
  (message "sinkd: %s" (apply #'format format arguments)))

(defun sinkd--tell-error (err)
  "Tell of ERR, a cons of a code and a text, once."
  (when (cdr err)
    (sinkd--tell "%s" (cdr err))
    (setcdr err nil)))

;;;; The bridge

(defun sinkd--on-line (line)
  "Carry out LINE, which came from the bridge."
  (let* ((message (condition-case nil
                      (json-parse-string line :object-type 'alist :array-type 'list :null-object nil
                                         :false-object nil)
                    (error (sinkd--tell "the bridge said what is no JSON: %s" (truncate-string-to-width line 80))
                           nil)))
         (method (alist-get 'method message))
         (id (alist-get 'id message))
         (done (and id sinkd--bridge (gethash id (sinkd--bridge-calls sinkd--bridge))))
         (err (alist-get 'error message)))
    (cond ((equal method "event") (sinkd--on-event (alist-get 'params message)))
          ((equal method "connection") (sinkd--on-connection (alist-get 'params message)))
          (done
           (remhash id (sinkd--bridge-calls sinkd--bridge))
           (if err
               (funcall done nil (cons (alist-get 'code (alist-get 'data err)) (alist-get 'message err)))
             (funcall done (alist-get 'result message) nil))))))

(defun sinkd--filter (bridge output)
  "Take OUTPUT of BRIDGE, line by line."
  (let ((lines (split-string (concat (sinkd--bridge-partial bridge) output) "\n")))
    (setf (sinkd--bridge-partial bridge) (car (last lines)))
    (dolist (line (butlast lines))
      (when (and (eq bridge sinkd--bridge) (not (string-empty-p line)))
        (sinkd--on-line line)))))

(defun sinkd--said (bridge)
  "The last line of what BRIDGE said of errors, or nil; they are dropped."
  (let* ((errors (sinkd--bridge-errors bridge))
         (buffer (process-buffer errors)))
    (while (accept-process-output errors 0.1))
    (prog1 (with-current-buffer buffer
             (car (last (split-string (buffer-string) "\n" t))))
      (delete-process errors)
      (kill-buffer buffer))))

(defun sinkd--sentinel (bridge process)
  "Tell of the end of BRIDGE, whose process PROCESS was."
  (unless (process-live-p process)
    (let* ((said (sinkd--said bridge))
           (err (cons "econn" (format "%s ended with status %d%s" (string-join sinkd-command " ")
                                      (process-exit-status process) (if said (concat ": " said) "")))))
      (when (eq bridge sinkd--bridge)
        (setq sinkd--bridge nil)
        (sinkd--tell-error err)
        (maphash (lambda (_ done) (funcall done nil err)) (sinkd--bridge-calls bridge))
        (dolist (c (hash-table-values sinkd--conversations))
          (sinkd--insert-end c)
          (setf (sinkd--c-ready c) nil
                (sinkd--c-attached c) nil
                (sinkd--c-loading c) nil)
          (sinkd--show-status c))))))

(defun sinkd--start ()
  "The bridge, started when there is none."
  (unless sinkd--bridge
    (unless (executable-find (car sinkd-command))
      (user-error "Cannot start %s: the command is not there or cannot be run" (car sinkd-command)))
    (let ((bridge (make-sinkd--bridge
                   :errors (make-pipe-process :name "sinkd errors" :noquery t :sentinel #'ignore
                                              :buffer (generate-new-buffer " *sinkd errors*" t)))))
      (condition-case err
          (setf (sinkd--bridge-process bridge)
                (make-process :name "sinkd" :command sinkd-command :connection-type 'pipe :noquery t
                              :coding '(utf-8-unix . no-conversion)
                              :stderr (sinkd--bridge-errors bridge)
                              :filter (lambda (_ output) (sinkd--filter bridge output))
                              :sentinel (lambda (process _) (sinkd--sentinel bridge process))))
        (file-error
         (sinkd--said bridge)
         (user-error "Cannot start %s: %s" (car sinkd-command) (car (last err)))))
      (setq sinkd--bridge bridge)))
  sinkd--bridge)

(defun sinkd--call (method params &optional done)
  "Send a request of METHOD with the alist PARAMS.
DONE is called once, with the result and nil or with nil and an error."
  (let* ((bridge (sinkd--start))
         (id (cl-incf sinkd--last-id))
         (request (json-serialize `((jsonrpc . "2.0") (id . ,id) (method . ,method) (params . ,params)))))
    (puthash id (or done (lambda (_ err) (when err (sinkd--tell-error err)))) (sinkd--bridge-calls bridge))
    (condition-case nil
        (process-send-string (sinkd--bridge-process bridge) (concat request "\n"))
      ;; Its sentinel tells why, and calls DONE.
      (error nil))))

(defun sinkd--call-now (method)
  "The result of METHOD, waited for a moment.
That is for completion, which cannot come later."
  (let (result ended)
    (sinkd--call method nil (lambda (answer _) (setq result answer ended t)))
    (with-timeout (1.5)
      (while (and sinkd--bridge (not ended))
        (accept-process-output (sinkd--bridge-process sinkd--bridge) 0.05)))
    result))

;;;; Drawing

(defmacro sinkd--drawing (c &rest body)
  "Change the buffer of the conversation C by BODY.
Its history of changes begins anew, since it knows of other places."
  (declare (indent 1) (debug t))
  `(with-current-buffer (sinkd--c-buffer ,c)
     (let ((inhibit-read-only t)
           (inhibit-modification-hooks t)
           (buffer-undo-list t))
       (save-excursion ,@body))
     (setq buffer-undo-list nil)
     (set-buffer-modified-p nil)))

(defun sinkd--fixed (text &rest properties)
  "TEXT that cannot be changed, with PROPERTIES."
  (apply #'propertize text 'read-only "what was said cannot be changed" 'front-sticky '(read-only)
         'rear-nonsticky '(read-only face) properties))

(defun sinkd--draw-message (number role text)
  "Draw a message at point: NUMBER, ROLE and TEXT.
Returns its place, for the list of messages."
  (let ((place (copy-marker (point))))
    (insert (sinkd--fixed (format "[%d] %s" number role) 'face 'sinkd-head)
            (sinkd--fixed (concat "\n" text "\n\n")))
    (cons number place)))

(defun sinkd--append-message (c number role text)
  "Draw a message at the end of C: NUMBER, ROLE and TEXT."
  (sinkd--drawing c
    (goto-char (sinkd--c-top c))
    (push (sinkd--draw-message number role text) (sinkd--c-messages c)))
  (setf (sinkd--c-open c) (and (equal role "assistant") number)))

(defun sinkd--append-text (c text)
  "Draw TEXT behind the message that grows in C."
  (sinkd--drawing c
    (goto-char (- (sinkd--c-top c) 2))
    (insert (sinkd--fixed text))))

(defun sinkd--cut (c number)
  "Take the messages of C from NUMBER on out of its buffer."
  (let (place)
    (while (and (sinkd--c-messages c) (>= (caar (sinkd--c-messages c)) number))
      (setq place (cdr (pop (sinkd--c-messages c)))))
    (when place
      (sinkd--drawing c
        (delete-region place (sinkd--c-top c)))))
  (setf (sinkd--c-open c) nil))

(defun sinkd--older-line (count)
  "The line that stands for COUNT messages."
  (sinkd--fixed (format "[older] %d earlier messages: RET here loads more\n" count) 'sinkd-older t))

(defun sinkd--draft-start (c)
  "Where the draft of C begins."
  (with-current-buffer (sinkd--c-buffer c)
    (save-excursion
      (goto-char (sinkd--c-top c))
      (line-beginning-position 2))))

(defun sinkd--clear (c)
  "Empty the buffer of C but for the draft."
  (setf (sinkd--c-messages c) nil
        (sinkd--c-open c) nil
        (sinkd--c-pending c) nil
        (sinkd--c-older c) nil)
  (cl-incf (sinkd--c-drawing c))
  (sinkd--drawing c
    (if (sinkd--c-top c)
        (delete-region (point-min) (sinkd--c-top c))
      (goto-char (point-min))
      (insert (sinkd--fixed "[you]" 'face 'sinkd-head) (sinkd--fixed "\n"))
      (setf (sinkd--c-top c) (copy-marker (point-min) t))))
  (with-current-buffer (sinkd--c-buffer c)
    (when (< (point) (sinkd--draft-start c))
      (goto-char (point-max)))))

(defun sinkd-status (&optional buffer)
  "What the conversation of BUFFER (the current one by default) is doing."
  (let* ((c (buffer-local-value 'sinkd--here (or buffer (current-buffer))))
         (info (and c (sinkd--c-info c)))
         (answer (and c (sinkd--c-answer c))))
    (when c
      (string-join
       (delq nil
             (list (sinkd--c-name c)
                   (cond ((not sinkd--bridge) "no bridge")
                         ((not (sinkd--bridge-connected sinkd--bridge)) "reconnecting")
                         ((sinkd--c-missing c) "new")
                         ((sinkd--c-reading c) (concat "reading " (sinkd--c-reading c)))
                         ((and answer (not (sinkd--answer-done answer)))
                          (format "answering %d" (sinkd--answer-tokens answer)))
                         ((not (sinkd--c-ready c)) "loading")
                         (t (alist-get 'state info)))
                   (and info (not (sinkd--c-missing c))
                        (format "%d tokens · window %d" (alist-get 'tokens info) (alist-get 'window info)))
                   (and info (not (sinkd--c-missing c)) (> (alist-get 'evicted info) 0)
                        (format "evicted %d" (alist-get 'evicted info)))))
       " · "))))

(defun sinkd--show-status (c)
  "Show what C is doing in its mode lines."
  (when (buffer-live-p (sinkd--c-buffer c))
    (with-current-buffer (sinkd--c-buffer c)
      (force-mode-line-update))))

;;;; Answers that are put into place

(defun sinkd--insert-end (c &optional why)
  "Put no more of the answer of C into another buffer; tell WHY."
  (let ((insert (sinkd--c-insert c)))
    (setf (sinkd--c-insert c) nil)
    (when insert
      (set-marker (sinkd--insert-marker insert) nil)
      (when why
        (sinkd--tell "%s" why)))))

(defun sinkd--insert-place (insert)
  "Make the place for the first piece of INSERT.
That is a line below the text that was sent, or instead of it."
  (goto-char (sinkd--insert-marker insert))
  (cond ((sinkd--insert-first insert)
         (delete-region (sinkd--insert-first insert) (point))
         (set-marker (sinkd--insert-first insert) nil))
        ((and (sinkd--insert-below insert) (not (bolp)))
         (insert "\n")))
  (setf (sinkd--insert-first insert) nil
        (sinkd--insert-below insert) nil))

(defun sinkd--insert-text (c)
  "Put the text that has come for the other buffer of C into place."
  (let* ((insert (sinkd--c-insert c))
         (buffer (marker-buffer (sinkd--insert-marker insert)))
         (text (sinkd--insert-pending insert)))
    (setf (sinkd--insert-pending insert) "")
    (cond
     ((string-empty-p text))
     ((or (not buffer) (buffer-local-value 'buffer-read-only buffer))
      (sinkd--insert-end c (format "the answer has no place any more; it goes on in %s"
                                   (buffer-name (sinkd--c-buffer c)))))
     (t
      (with-current-buffer buffer
        (let ((joins (eql (sinkd--insert-tick insert) (buffer-chars-modified-tick))))
          (unless joins
            (undo-boundary)
            (setf (sinkd--insert-change insert) (prepare-change-group)))
          (save-excursion
            (sinkd--insert-place insert)
            (insert text))
          ;; One step for undo, as long as nobody else changes the buffer meanwhile.
          (undo-amalgamate-change-group (sinkd--insert-change insert))
          (setf (sinkd--insert-tick insert) (buffer-chars-modified-tick))))))))

(defun sinkd--insert-take (c)
  "Hand what the answer of C has to the other buffer, when it is for it."
  (let ((insert (sinkd--c-insert c))
        (answer (sinkd--c-answer c)))
    (when (and insert answer (eql (sinkd--insert-message insert) (sinkd--answer-message answer)))
      (cl-callf concat (sinkd--insert-pending insert)
        (sinkd--answer-text answer))
      (setf (sinkd--answer-text answer) "")
      (when (sinkd--answer-done answer)
        (sinkd--insert-text c)
        (sinkd--insert-end c (and (equal (sinkd--answer-done answer) "error") "the answer ended with an error"))))))

;;;; What streams

(defun sinkd--flush (c)
  "Draw the text of C that has come."
  (when (and (sinkd--c-pending c) (buffer-live-p (sinkd--c-buffer c)))
    (sinkd--append-text c (sinkd--c-pending c))
    (setf (sinkd--c-pending c) nil))
  (when (sinkd--c-insert c)
    (sinkd--insert-text c))
  (sinkd--show-status c))

(defun sinkd--flush-all ()
  "Draw all text that has come."
  (setq sinkd--flush-timer nil)
  (dolist (c (hash-table-values sinkd--conversations))
    (sinkd--flush c)))

(defun sinkd--flush-soon ()
  "Draw what has come within `sinkd-redraw' seconds."
  (unless sinkd--flush-timer
    (setq sinkd--flush-timer (run-at-time sinkd-redraw nil #'sinkd--flush-all))))

(defun sinkd--refresh (c)
  "Ask for the figures of C."
  (sinkd--call "show" `((conversation . ,(sinkd--c-name c)))
               (lambda (result err)
                 (unless err
                   (setf (sinkd--c-info c) (alist-get 'conversation result))
                   (sinkd--show-status c)))))

(defun sinkd--on-text (c event)
  "A piece of the answer of C, told by EVENT."
  (when (eql (sinkd--c-open c) (alist-get 'message event))
    (let ((answer (sinkd--c-answer c))
          (text (alist-get 'text event)))
      (cl-callf concat (sinkd--c-pending c) text)
      (cl-incf (sinkd--answer-tokens answer) (alist-get 'tokens event))
      (when (sinkd--c-insert c)
        (cl-callf concat (sinkd--answer-text answer) text)
        (sinkd--insert-take c))
      (sinkd--flush-soon))))

(defun sinkd--on-done (c event)
  "End the answer of C, as told by EVENT."
  (let ((answer (sinkd--c-answer c)))
    (setf (sinkd--c-reading c) nil)
    (when (and answer (eql (sinkd--answer-message answer) (alist-get 'message event)))
      (setf (sinkd--answer-done answer) (alist-get 'finish event))
      (sinkd--insert-take c))
    (sinkd--flush c)
    (sinkd--refresh c)))

(defun sinkd--on-renamed (c to)
  "C has the name TO from now on."
  (remhash (sinkd--c-name c) sinkd--conversations)
  (setf (sinkd--c-name c) to)
  (puthash to c sinkd--conversations)
  (with-current-buffer (sinkd--c-buffer c)
    (rename-buffer (sinkd--buffer-name to) t))
  (sinkd--refresh c))

(defun sinkd--on-removed (c)
  "C is no more."
  (sinkd--insert-end c "the conversation was removed in mid-answer")
  (setf (sinkd--c-ready c) nil
        (sinkd--c-missing c) t
        (sinkd--c-answer c) nil
        (sinkd--c-reading c) nil)
  (sinkd--tell "%s was removed" (sinkd--c-name c))
  (sinkd--show-status c))

(defun sinkd--happen (c event)
  "Draw EVENT of C."
  (let ((number (alist-get 'message event)))
    (pcase (alist-get 'ev event)
      ("message"
       (sinkd--flush c)
       (sinkd--append-message c number (alist-get 'role event) (alist-get 'text event)))
      ("answer"
       (sinkd--flush c)
       (setf (sinkd--c-reading c) nil
             (sinkd--c-answer c) (make-sinkd--answer :message number))
       (sinkd--append-message c number "assistant" "")
       (sinkd--refresh c))
      ("prefill"
       (setf (sinkd--c-reading c)
             (and (< (alist-get 'done event) (alist-get 'total event))
                  (format "%d/%d" (alist-get 'done event) (alist-get 'total event))))
       (sinkd--show-status c))
      ("text" (sinkd--on-text c event))
      ("done" (sinkd--on-done c event))
      ("rewound"
       (sinkd--flush c)
       (sinkd--cut c (alist-get 'messages event))
       (setf (sinkd--c-reading c) nil
             (sinkd--c-answer c) nil)
       (sinkd--refresh c))
      ("error"
       (sinkd--tell "%s: %s" (sinkd--c-name c) (alist-get 'text event))
       (sinkd--refresh c))
      ("unsaved" (sinkd--tell "%s: %s" (sinkd--c-name c) (alist-get 'text event)))
      ("renamed" (sinkd--on-renamed c (alist-get 'to event)))
      ("removed" (sinkd--on-removed c)))))

(defun sinkd--past-p (c event)
  "Whether EVENT of C is drawn already.
Of what was before the moment of `show', only the answer that was being
written then is not."
  (and (< (alist-get 'seq event) (sinkd--c-since c))
       (not (and (sinkd--c-wanted c)
                 (eql (alist-get 'message event) (sinkd--c-wanted c))
                 (member (alist-get 'ev event) '("answer" "text"))))))

(defun sinkd--on-event (event)
  "Take EVENT, a notification of the bridge."
  (let* ((name (alist-get 'conversation event))
         (c (and name (gethash name sinkd--conversations)))
         (kind (alist-get 'ev event))
         (seq (alist-get 'seq event)))
    (cond
     ((not (and c (sinkd--c-attached c) (buffer-live-p (sinkd--c-buffer c)))))
     ((or (equal kind "ended") (and (equal kind "error") (equal (alist-get 'code event) "egone")))
      (sinkd--tell "%s: %s" name (alist-get 'text event))
      (sinkd--reload c))
     ((< seq (sinkd--c-next c)))
     ((> seq (sinkd--c-next c)) (sinkd--reload c))
     (t
      (setf (sinkd--c-next c) (1+ seq))
      (cond
       ((sinkd--past-p c event))
       ((and (>= seq (sinkd--c-since c)) (sinkd--c-wanted c) (not (sinkd--c-answer c))
             (member kind '("text" "done")))
        ;; The answer begins further back.
        (setf (sinkd--c-far c) t)
        (sinkd--reload c))
       (t (sinkd--happen c event)))))))

(defun sinkd--on-connection (params)
  "The bridge has lost the daemon or found it again, as PARAMS tell."
  (let ((connected (equal (alist-get 'state params) "connected")))
    (unless (eq connected (sinkd--bridge-connected sinkd--bridge))
      (setf (sinkd--bridge-connected sinkd--bridge) connected)
      (sinkd--tell (if connected "the daemon is back" "the daemon is gone; waiting for it"))
      (dolist (c (hash-table-values sinkd--conversations))
        (sinkd--show-status c)
        (when (and connected (sinkd--c-ready c))
          (sinkd--call "show" `((conversation . ,(sinkd--c-name c)))
                       (lambda (result err)
                         (let ((info (alist-get 'conversation result)))
                           (cond (err)
                                 ;; A daemon that lost what was never saved is behind us.
                                 ((< (alist-get 'seq info) (sinkd--c-next c)) (sinkd--reload c))
                                 (t (setf (sinkd--c-info c) info)
                                    (sinkd--show-status c)))))))))))

;;;; Loading

(defun sinkd--loaded (c &optional err)
  "Those that waited for C go on, with ERR or without."
  (let ((waiting (nreverse (sinkd--c-waiting c))))
    (setf (sinkd--c-loading c) nil
          (sinkd--c-waiting c) nil)
    (when err
      (sinkd--tell-error err))
    (sinkd--show-status c)
    (dolist (continue waiting)
      (funcall continue err))))

(defun sinkd--load-messages (c from to place continue)
  "Draw the messages FROM up to TO of C at the marker PLACE, in pieces.
Then call CONTINUE."
  (if (>= from to)
      (funcall continue)
    (let ((drawing (sinkd--c-drawing c)))
      (sinkd--call
       "log" `((conversation . ,(sinkd--c-name c)) (from . ,from) (count . ,(min (- to from) 50)))
       (lambda (result err)
         (let ((messages (alist-get 'messages result)))
           (cond
            ((not (and (buffer-live-p (sinkd--c-buffer c)) (eql drawing (sinkd--c-drawing c)))))
            (err (sinkd--loaded c err))
            ((not messages) (funcall continue))
            (t
             (sinkd--load-piece c messages place)
             (sinkd--load-messages c (+ from (length messages)) to place continue)))))))))

(defun sinkd--load-piece (c messages place)
  "Draw MESSAGES of C at the marker PLACE, and move it behind them."
  (let (drawn)
    (sinkd--drawing c
      (goto-char place)
      (dolist (m messages)
        (push (sinkd--draw-message (alist-get 'message m) (alist-get 'role m) (alist-get 'text m)) drawn))
      (set-marker place (point)))
    ;; Those behind the place have later numbers.
    (setf (sinkd--c-messages c)
          (sort (append drawn (sinkd--c-messages c)) (lambda (a b) (> (car a) (car b)))))))

(defun sinkd--attach (c)
  "Follow C from the moment that its figures tell."
  (let* ((info (sinkd--c-info c))
         (seq (alist-get 'seq info))
         (first (alist-get 'first_seq info))
         (answering (and (equal (alist-get 'state info) "answering") (alist-get 'answer info)))
         (from (cond ((not answering) seq)
                     ((sinkd--c-far c) first)
                     (t (max first (- seq sinkd--look-back))))))
    (setf (sinkd--c-since c) seq
          (sinkd--c-wanted c) answering
          (sinkd--c-far c) nil
          (sinkd--c-answer c) nil)
    (sinkd--call "attach" `((conversation . ,(sinkd--c-name c)) (from . ,from))
                 (lambda (result err)
                   (cond
                    ((not (buffer-live-p (sinkd--c-buffer c))))
                    ((equal (car err) "egone")
                     (setf (sinkd--c-loading c) nil)
                     (sinkd--reload c))
                    (t
                     (unless err
                       (setf (sinkd--c-attached c) t
                             (sinkd--c-ready c) t
                             (sinkd--c-next c) (alist-get 'seq result)))
                     (sinkd--loaded c err)))))))

(defun sinkd--shown (c result err)
  "Load C, whose figures are in RESULT unless there is an ERR."
  (cond
   ((not (buffer-live-p (sinkd--c-buffer c))))
   ((equal (car err) "enoent")
    (setf (sinkd--c-missing c) t)
    (sinkd--loaded c))
   (err (sinkd--loaded c err))
   (t
    (let* ((info (setf (sinkd--c-info c) (alist-get 'conversation result)))
           (to (or (alist-get 'answer info) (alist-get 'messages info)))
           (from (max 0 (- to sinkd-history-size))))
      (when (> from 0)
        (sinkd--drawing c
          (goto-char (point-min))
          (insert (sinkd--older-line from))))
      (sinkd--load-messages c from to (copy-marker (sinkd--c-top c)) (lambda () (sinkd--attach c)))))))

(defun sinkd--reload (c)
  "Draw C anew, and follow it."
  (when (and (not (sinkd--c-loading c)) (buffer-live-p (sinkd--c-buffer c))
             (condition-case err
                 (sinkd--start)
               (error (sinkd--tell "%s" (error-message-string err))
                      nil)))
    (setf (sinkd--c-loading c) t
          (sinkd--c-ready c) nil
          (sinkd--c-attached c) nil
          (sinkd--c-missing c) nil)
    (sinkd--clear c)
    (sinkd--call "show" `((conversation . ,(sinkd--c-name c)))
                 (lambda (result err) (sinkd--shown c result err)))))

(defun sinkd--load-older (c)
  "Load what was before the first message that is drawn of C."
  (let* ((first (or (caar (last (sinkd--c-messages c))) 0))
         (from (max 0 (- first sinkd-history-size))))
    (when (and (> first 0) (sinkd--c-ready c) (not (sinkd--c-older c)))
      (setf (sinkd--c-older c) t)
      (let (place)
        (sinkd--drawing c
          (goto-char (point-min))
          (delete-region (point) (line-beginning-position 2))
          (when (> from 0)
            (insert-before-markers (sinkd--older-line from)))
          (setq place (copy-marker (point))))
        ;; What is drawn at the place must not stand behind the marker of the message there.
        (set-marker-insertion-type (cdar (last (sinkd--c-messages c))) t)
        (sinkd--load-messages c from first place
                              (lambda ()
                                (dolist (message (sinkd--c-messages c))
                                  (set-marker-insertion-type (cdr message) nil))
                                (setf (sinkd--c-older c) nil)))))))

;;;; Buffers

(defvar sinkd-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'sinkd-enter)
    (define-key map (kbd "C-j") #'newline)
    (define-key map (kbd "C-c C-c") #'sinkd-enter)
    (define-key map (kbd "C-c C-k") #'sinkd-stop)
    (define-key map (kbd "C-c C-f") #'sinkd-fork)
    (define-key map (kbd "C-c C-r") #'sinkd-rename)
    (define-key map (kbd "C-c C-w") #'sinkd-rewind)
    (define-key map (kbd "C-c C-l") #'sinkd-list)
    map)
  "Keys of a conversation.")

(define-derived-mode sinkd-mode text-mode "Sinkd"
  "A conversation kept by sinkd.
What was said cannot be changed; the draft stands below the line [you], and
\\<sinkd-mode-map>\\[sinkd-enter] says it.

\\{sinkd-mode-map}"
  (setq-local scroll-conservatively 101)
  (setq-local mode-line-process '(" " (:eval (sinkd-status))))
  (setq-local revert-buffer-function (lambda (&rest _) (sinkd--reload sinkd--here)))
  (visual-line-mode)
  (add-hook 'kill-buffer-hook #'sinkd--closed nil t))

(defun sinkd--buffer-name (name)
  "The name of the buffer of the conversation NAME."
  (format "*sinkd: %s*" name))

(defun sinkd--closed ()
  "Forget the conversation of this buffer, which is killed."
  (let ((c sinkd--here))
    (when (and c (eq c (gethash (sinkd--c-name c) sinkd--conversations)))
      (sinkd--insert-end c)
      (remhash (sinkd--c-name c) sinkd--conversations)
      (when (eq c sinkd--latest)
        (setq sinkd--latest nil))
      (when (and sinkd--bridge (sinkd--c-attached c))
        ;; The number of an attachment may be another one since it was made; attaching again tells it.
        (sinkd--call "attach" `((conversation . ,(sinkd--c-name c)))
                     (lambda (result err)
                       (unless err
                         (sinkd--call "detach" `((attachment . ,(alist-get 'attachment result))) #'ignore))))))))

(defun sinkd--conversation-of (name)
  "The conversation NAME, with a buffer that need not be seen."
  (let ((c (gethash name sinkd--conversations)))
    (unless (and c (buffer-live-p (sinkd--c-buffer c)))
      (setq c (make-sinkd--conversation :name name))
      (with-current-buffer (get-buffer-create (sinkd--buffer-name name))
        (let ((inhibit-read-only t))
          (erase-buffer))
        (sinkd-mode)
        (setq sinkd--here c)
        (setf (sinkd--c-buffer c) (current-buffer)))
      (puthash name c sinkd--conversations)
      (sinkd--clear c))
    (unless (or (sinkd--c-ready c) (sinkd--c-loading c) (sinkd--c-missing c))
      (sinkd--reload c))
    c))

(defun sinkd--when-ready (c continue)
  "Call CONTINUE with nil when C is drawn and followed.
Else with an error, of which was told.  C is made when it is missing."
  (unless (or (sinkd--c-ready c) (sinkd--c-loading c) (sinkd--c-missing c))
    (sinkd--reload c))
  (cond
   ((sinkd--c-loading c)
    (push (lambda (err)
            (if err
                (funcall continue err)
              (sinkd--when-ready c continue)))
          (sinkd--c-waiting c)))
   ((sinkd--c-ready c) (funcall continue nil))
   (t
    (sinkd--call "new" `((name . ,(sinkd--c-name c)))
                 (lambda (_ err)
                   (cond ((and err (not (equal (car err) "eexist")))
                          (sinkd--tell-error err)
                          (funcall continue err))
                         (t
                          (setf (sinkd--c-missing c) nil)
                          (sinkd--when-ready c continue))))))))

(defun sinkd--with-target (continue)
  "Call CONTINUE with the conversation that a command without a name means.
That is the one of the buffer, the one used last here, the one used last at
all, or a new one."
  (let ((c (or sinkd--here sinkd--latest)))
    (if c
        (funcall continue c)
      (sinkd--call
       "list" nil
       (lambda (result err)
         (let ((name (alist-get 'name (car (alist-get 'conversations result)))))
           (cond (err (sinkd--tell-error err))
                 (name (funcall continue (sinkd--conversation-of name)))
                 (t
                  (sinkd--call "new" nil
                               (lambda (made refused)
                                 (if refused
                                     (sinkd--tell-error refused)
                                   (funcall continue
                                            (sinkd--conversation-of
                                             (alist-get 'name (alist-get 'conversation made)))))))))))))))

(defun sinkd--names ()
  "The names of all conversations, last used first."
  (mapcar (lambda (info) (alist-get 'name info)) (alist-get 'conversations (sinkd--call-now "list"))))

(defun sinkd--read-name (prompt)
  "Read the name of a conversation with PROMPT."
  (let ((names (sinkd--names)))
    (completing-read (format-prompt prompt (car names)) names nil nil nil 'sinkd--names-read (car names))))

(defun sinkd--visit (c)
  "Show C."
  (pop-to-buffer-same-window (sinkd--c-buffer c))
  (goto-char (point-max))
  (setq sinkd--latest c))

(defun sinkd--say (c text done)
  "Say TEXT in C.
Then DONE is called with the reply and nil, or with nil and an error, of
which was told."
  (setq sinkd--latest c)
  (sinkd--when-ready c
                     (lambda (err)
                       (if err
                           (funcall done nil err)
                         (sinkd--call "say" `((conversation . ,(sinkd--c-name c)) (text . ,text))
                                      (lambda (result refused)
                                        (when refused
                                          (sinkd--tell-error refused))
                                        (funcall done result refused)))))))

(defun sinkd--with-text (prompt text)
  "TEXT behind PROMPT, fenced so that it ends where it ends."
  (if (string-empty-p prompt)
      text
    (let ((fence "```"))
      (while (string-search fence text)
        (cl-callf concat fence "`"))
      (format "%s\n\n%s%s\n%s\n%s" prompt fence
              (if (derived-mode-p 'prog-mode) (string-remove-suffix "-mode" (symbol-name major-mode)) "")
              (string-remove-suffix "\n" text) fence))))

;;;; Commands

(defun sinkd--settled (call)
  "Call CALL with the conversation that is meant, when it is not just being drawn.
What is asked then has events that are seen."
  (sinkd--with-target
   (lambda (c)
     (if (sinkd--c-loading c)
         (push (lambda (err) (unless err (funcall call c))) (sinkd--c-waiting c))
       (funcall call c)))))

;;;###autoload
(defun sinkd (name)
  "Open the conversation NAME; it is made by what is said first."
  (interactive (list (sinkd--read-name "Conversation")))
  (if (string-empty-p name)
      (sinkd--with-target #'sinkd--visit)
    (sinkd--visit (sinkd--conversation-of name))))

(defun sinkd-enter ()
  "Say the draft; on the first line, load what was before it."
  (interactive nil sinkd-mode)
  (let ((c sinkd--here))
    (if (get-text-property (line-beginning-position) 'sinkd-older)
        (sinkd--load-older c)
      (let* ((start (sinkd--draft-start c))
             (draft (buffer-substring-no-properties start (point-max)))
             (text (string-trim draft "[ \t\n]*\n" "[ \t\n]+")))
        (when (string-empty-p text)
          (user-error "There is nothing below [you] to say"))
        (delete-region start (point-max))
        (goto-char (point-max))
        (condition-case err
            (sinkd--say c text
                        (lambda (_ refused)
                          (when (and refused (buffer-live-p (sinkd--c-buffer c)))
                            (with-current-buffer (sinkd--c-buffer c)
                              (save-excursion
                                (goto-char (sinkd--draft-start c))
                                (insert draft))))))
          (error
           (insert draft)
           (signal (car err) (cdr err))))))))

;;;###autoload
(defun sinkd-say (text)
  "Say TEXT in the conversation of this buffer, or in the one that was used last."
  (interactive "sSay: ")
  (sinkd--with-target (lambda (c) (sinkd--say c text #'ignore))))

;;;###autoload
(defun sinkd-send-region (start end &optional prompt)
  "Say the text from START to END, fenced behind PROMPT unless that is empty."
  (interactive "r\nsPrompt: ")
  (sinkd-say (sinkd--with-text (or prompt "") (buffer-substring-no-properties start end))))

;;;###autoload
(defun sinkd-insert (prompt &optional start end replace)
  "Ask PROMPT, and stream the answer into this buffer at point.
With an active region, from START to END, its text is said too, and the answer
comes below it, or instead of it with REPLACE, the prefix argument."
  (interactive (append (list (read-string "Prompt: "))
                       (if (use-region-p) (list (region-beginning) (region-end)) '(nil nil))
                       (list current-prefix-arg)))
  (when sinkd--here
    (user-error "An answer cannot be put into a conversation"))
  (barf-if-buffer-read-only)
  (when (and (string-empty-p prompt) (not start))
    (user-error "There is nothing to say: give a prompt or a region"))
  (let ((insert (make-sinkd--insert :marker (copy-marker (or end (point)) t)
                                    :first (and start replace (copy-marker start))
                                    :below (and start (not replace))))
        (text (if start
                  (sinkd--with-text prompt (buffer-substring-no-properties start end))
                prompt)))
    (sinkd--with-target
     (lambda (c)
       (if (sinkd--c-insert c)
           (sinkd--tell "%s is answering into another place; M-x sinkd-stop ends that" (sinkd--c-name c))
         (setf (sinkd--c-insert c) insert)
         (sinkd--say c text
                     (lambda (result err)
                       (cond ((not (eq insert (sinkd--c-insert c))))
                             (err (sinkd--insert-end c))
                             (t (setf (sinkd--insert-message insert) (1+ (alist-get 'message result)))
                                (sinkd--insert-take c))))))))))

;;;###autoload
(defun sinkd-stop ()
  "Stop the answer for this buffer, else that of the conversation."
  (interactive)
  (let ((c (cl-find-if (lambda (c)
                         (and (sinkd--c-insert c)
                              (eq (current-buffer) (marker-buffer (sinkd--insert-marker (sinkd--c-insert c))))))
                       (hash-table-values sinkd--conversations)))
        (stop (lambda (c) (sinkd--call "stop" `((conversation . ,(sinkd--c-name c)))))))
    (if c
        (funcall stop c)
      (sinkd--with-target stop))))

(defun sinkd--message-at-point ()
  "The number of the message at point."
  (or (and sinkd--here
           (< (point) (sinkd--c-top sinkd--here))
           (car (cl-find-if (lambda (message) (<= (cdr message) (point))) (sinkd--c-messages sinkd--here))))
      (user-error "There is no message at point")))

(defun sinkd--fork (c to message try)
  "Fork C before MESSAGE under the name TO, and open the fork.
When TRY is a number, the name is invented from it."
  (sinkd--call "fork"
               `((conversation . ,(sinkd--c-name c))
                 (to . ,(if try (format "%s-%d" (sinkd--c-name c) try) to))
                 ,@(and message `((message . ,message))))
               (lambda (result err)
                 (cond ((not err)
                        (sinkd--visit (sinkd--conversation-of (alist-get 'name (alist-get 'conversation result)))))
                       ((and try (< try 100) (equal (car err) "eexist")) (sinkd--fork c to message (1+ try)))
                       (t (sinkd--tell-error err))))))

;;;###autoload
(defun sinkd-fork (to &optional here)
  "Fork the conversation under the name TO, and open it.
An empty name means an invented one.
With HERE, the prefix argument, only the messages before that at point."
  (interactive "sName of the fork: \nP")
  (let ((message (and here (sinkd--message-at-point))))
    (sinkd--with-target (lambda (c) (sinkd--fork c to message (and (string-empty-p to) 2))))))

;;;###autoload
(defun sinkd-rename (to)
  "Rename the conversation to TO."
  (interactive "sNew name: ")
  (sinkd--settled
   (lambda (c) (sinkd--call "rename" `((conversation . ,(sinkd--c-name c)) (to . ,to))))))

;;;###autoload
(defun sinkd-rewind (message)
  "Forget the messages of the conversation from the number MESSAGE on.
Without a prefix argument that is the one at point."
  (interactive (list (if current-prefix-arg
                         (prefix-numeric-value current-prefix-arg)
                       (sinkd--message-at-point))))
  (sinkd--settled
   (lambda (c) (sinkd--call "rewind" `((conversation . ,(sinkd--c-name c)) (message . ,message))))))

;;;; The list

(defvar sinkd-list-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'sinkd-list-open)
    map)
  "Keys of the list of conversations.")

(define-derived-mode sinkd-list-mode tabulated-list-mode "Sinkd-List"
  "The conversations that sinkd keeps."
  (setq tabulated-list-format [("Name" 24 t) ("State" 10 t) ("Msgs" 6 nil :right-align t)
                               ("Tokens" 8 nil :right-align t) ("Window" 8 nil :right-align t)
                               ("Evicted" 9 nil :right-align t)])
  (tabulated-list-init-header)
  (setq-local revert-buffer-function (lambda (&rest _) (sinkd--list-fill (current-buffer)))))

(defun sinkd--list-entry (info)
  "The row of the conversation of INFO."
  (cl-flet ((figure (key) (number-to-string (alist-get key info))))
    (list (alist-get 'name info)
          (vector (alist-get 'name info) (alist-get 'state info) (figure 'messages) (figure 'tokens)
                  (figure 'window) (figure 'evicted)))))

(defun sinkd--list-fill (buffer)
  "Ask for the conversations, and show them in BUFFER."
  (sinkd--call "list" nil
               (lambda (result err)
                 (cond (err (sinkd--tell-error err))
                       ((buffer-live-p buffer)
                        (with-current-buffer buffer
                          (setq tabulated-list-entries
                                (mapcar #'sinkd--list-entry (alist-get 'conversations result)))
                          (tabulated-list-print t)))))))

(defun sinkd-list-open ()
  "Open the conversation of this line."
  (interactive nil sinkd-list-mode)
  (sinkd (or (tabulated-list-get-id) (user-error "There is no conversation on this line"))))

;;;###autoload
(defun sinkd-list ()
  "List the conversations."
  (interactive)
  (let ((buffer (get-buffer-create "*sinkd list*")))
    (with-current-buffer buffer
      (unless (derived-mode-p 'sinkd-list-mode)
        (sinkd-list-mode)))
    (pop-to-buffer-same-window buffer)
    (sinkd--list-fill buffer)))

(provide 'sinkd)

;;; sinkd.el ends here
