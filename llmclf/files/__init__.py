"""Files as they are found and kept: what is wrong with one that cannot be read or believed, transactions on SQLite files, and
what a signal leaves of them.

May import nothing of llmclf. Another way in which a file can be broken goes into ``faults``; its words then stand in the messages
about model folders, saved classifiers, caches, journals and tables alike.
"""
