local head = redis.call('HMGET', hash, 'run', 'until')
barred_until(head[1], head[2])
return 1
