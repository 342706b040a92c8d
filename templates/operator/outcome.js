(function(){
var shown=document.getElementById("outcome"),left=20
if(!shown||!window.fetch||!window.DOMParser)return
var timer=setInterval(function(){
if(--left<0)return clearInterval(timer)
fetch(location.href,{credentials:"same-origin",cache:"no-store"}).then(function(answer){return answer.text()}).then(function(text){
var fresh=new DOMParser().parseFromString(text,"text/html").getElementById("outcome")
if(!fresh)return clearInterval(timer)
if(shown.innerHTML!==fresh.innerHTML)shown.innerHTML=fresh.innerHTML
if(!fresh.hasAttribute("data-waiting"))clearInterval(timer)
}).catch(function(){})
},3000)
})()
