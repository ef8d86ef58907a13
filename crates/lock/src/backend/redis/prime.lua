barred_until()
return 1
